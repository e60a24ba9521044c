"""From raw batches in the lake to cleaned listings."""
