"""Waiting for what happens on another thread or in another process, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 120.0
"""How long is waited before something counts as hanging: no measure of speed, who is done goes on at once."""


def eventually(happened: Callable[[], object]) -> bool:
    """Whether it happened while somebody patient looked."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        if time.monotonic() >= end:
            return False
        time.sleep(0.005)
    return True
