"""What every WebUI of the A1111 family has, one file a concern."""
