"""What this machine can do, measured in the background: disk, page cache, bus, and the WebUI's own moves."""
