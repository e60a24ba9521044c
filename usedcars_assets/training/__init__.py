"""The base models and the stack."""
