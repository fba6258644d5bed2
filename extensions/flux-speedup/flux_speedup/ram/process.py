"""RAM of this process alone."""

from __future__ import annotations

import sys
from pathlib import Path

from .system import PROC, numbers, psutil


def anonymous(status: Path = PROC / "self" / "status") -> int | None:
    """Bytes of this process that no file stands behind; None where the system does not say."""
    if sys.platform == "win32":
        known = psutil()
        return int(known.Process().memory_info().private) if known is not None else None
    kilobytes = numbers(status).get("RssAnon")
    return None if kilobytes is None else kilobytes * 1024
