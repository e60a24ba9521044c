"""The outside world: raw listings, uploads of batches, price requests and the prices set later."""
