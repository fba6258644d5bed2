"""The log of the extension: its own logger and handler, never the root's."""

from __future__ import annotations

import logging

PREFIX = "[flux-speedup] "


def set_up_log() -> None:
    """Show INFO and above with our prefix. Idempotent; a handler somebody gave the logger is respected."""
    log = logging.getLogger("flux_speedup")
    if log.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(PREFIX + "%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
