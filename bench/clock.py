"""The seconds of a call, and how many of a run are left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any


def synchronize(device: Any = None) -> None:
    """Wait for the device (default: the current GPU, where PyTorch is in use and there is one)."""
    torch = sys.modules.get("torch")
    if torch is not None and (device.type == "cuda" if device else torch.cuda.is_available()):
        torch.cuda.synchronize(device)


def timed(what: Callable[[], Any], device: Any = None) -> tuple[float, Any]:
    """Seconds until the device is done, and what the call returned."""
    synchronize(device)
    start = time.perf_counter()
    result = what()
    synchronize(device)
    return time.perf_counter() - start, result


class Budget:
    """So many seconds from now on."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return self._end - time.monotonic()
