"""The settings: their kinds, their sources, and their order."""
