"""What was loaded, moved and unloaded, how fast, and where that is kept."""
