"""Changes to the host, each with its exact undo, in one table."""
