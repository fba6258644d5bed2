"""A whole WebUI over its API, without and with the extension."""
