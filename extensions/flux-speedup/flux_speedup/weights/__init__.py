"""The room where weights live in their files: spans, plans, transfers, residency. Imports no WebUI module."""
