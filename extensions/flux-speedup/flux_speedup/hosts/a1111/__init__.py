"""A1111: what can be asked of it and done to it."""
