"""The HTTP API: GET /flux-speedup/v1/status, /stats and /config."""

from .access import Access, gradio_login
from .routes import register

__all__ = ["Access", "gradio_login", "register"]
