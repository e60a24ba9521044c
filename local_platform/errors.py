"""What the embedded platform says when something is wrong."""


class PlatformError(Exception):
    """One sentence: what is wrong, with what, and what to do."""
