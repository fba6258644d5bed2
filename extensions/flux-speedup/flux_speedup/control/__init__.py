"""What tab and API may do: every write, and the rules of who may ask for it, in one place for both."""
