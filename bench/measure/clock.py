"""Seconds of a call, with what it started on the device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


def synchronize(device: torch.device | None = None) -> None:
    """Wait for the device (default: the current GPU, where there is one)."""
    if device.type == "cuda" if device else torch.cuda.is_available():
        torch.cuda.synchronize(device)


def timed(what: Callable[[], Any], device: torch.device | None = None) -> tuple[float, Any]:
    """Seconds until the device is done, and what the call returned."""
    synchronize(device)
    start = time.perf_counter()
    result = what()
    synchronize(device)
    return time.perf_counter() - start, result
