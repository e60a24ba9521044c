"""From cleaned listings to feature tables."""
