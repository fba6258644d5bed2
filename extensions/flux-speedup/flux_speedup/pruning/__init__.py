"""Which scripts and extensions the WebUI does not load, and what that means for requests. Imports no WebUI."""
