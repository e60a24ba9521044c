"""What can go wrong for the user of the simulation."""


class SimulationError(Exception):
    """One sentence: what is wrong, with what, and what to do."""
