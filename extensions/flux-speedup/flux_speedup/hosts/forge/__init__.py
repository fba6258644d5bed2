"""Forge, one file a concern, by the names that every host uses."""
