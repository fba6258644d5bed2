"""Repeated calls on one device, as rows."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bench import clock
from bench.record import Record


@dataclass(frozen=True)
class Timing:
    """Where it is measured, how often, and where rows go."""

    device: torch.device
    repeats: int
    record: Record

    def timed(self, what: Callable[[], Any]) -> tuple[float, Any]:
        return clock.timed(what, self.device)

    def empty_cache(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def add(self, name: str, seconds: list[float], size: int = 0, **more: Any) -> float:
        """The best of the seconds; `size` in bytes, 0 where there is no speed to tell."""
        best = min(seconds)
        speed = {"bytes": size, "gb_per_s": round(size / best / 1e9, 2)} if size else {}
        middle = round(statistics.median(seconds), 5)
        self.record.row(name=name, best=round(best, 5), median=middle, runs=len(seconds), **speed, **more)
        return best


def device_named(name: str) -> torch.device:
    """A CPU gets a number, so that it is not equal to the weights' home."""
    device = torch.device(name)
    return torch.device("cpu", 0) if device.type == "cpu" else torch.device(device.type, device.index or 0)
