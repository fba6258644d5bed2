"""The HTTP API under /flux-speedup/v1/: what is in force, figures, models, machine, settings."""

from .access import Access, gradio_login
from .routes import register

__all__ = ["Access", "gradio_login", "register"]
