"""The HTTP API under /flux-speedup/v1/: what is in force, figures, models, machine, settings."""

from .access import Access, gradio_login
from .routes import register
from .writes import Writes

__all__ = ["Access", "Writes", "gradio_login", "register"]
