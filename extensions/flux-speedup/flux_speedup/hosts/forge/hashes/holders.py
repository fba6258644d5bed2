"""Models and requests in which something stands for a hash that is still to come."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from .late import Late

HELD = "sd_model_hash"
"""The attribute, of both."""


class Holders:
    """Weakly. Safe from any thread."""

    def __init__(self, settle: Callable[[Any], None]) -> None:
        """`settle`: waits for the hash of a checkpoint's entry."""
        self._settle = settle
        self._lock = threading.Lock()
        self._refs: list[weakref.ref[Any]] = []

    def write(self, holder: Any, value: Any) -> Any:
        """What the attribute holds from now on."""
        if isinstance(value, Late):
            with self._lock:
                self._refs = [weakref.ref(each) for each in (*self._alive(), holder)]
        return value

    def resolved(self, holder: Any, held: Any) -> Any:
        """The hash itself; None where it has none, or goes without."""
        if not isinstance(held, Late):
            return held
        self._settle(held.info)
        if held.known and vars(holder).get(HELD) is held:
            vars(holder)[HELD] = held.value
        return held.value

    def release(self) -> None:
        """They hold what they would without us."""
        for holder in self._alive():
            late = vars(holder).get(HELD)
            if isinstance(late, Late):
                vars(holder)[HELD] = late.value

    def _alive(self) -> list[Any]:
        return [holder for ref in self._refs if (holder := ref()) is not None]
