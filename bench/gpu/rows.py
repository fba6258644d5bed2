"""What was timed: a row each, printed as it comes."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from typing import Any

import torch

from measure import clock
from measure.output import say

Row = dict[str, Any]


class Bench:
    """Collects rows, prints each as it comes, and knows how to wait for the device."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device = device
        self.repeats = repeats
        self.rows: list[Row] = []

    def empty_cache(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def timed(self, what: Callable[[], Any]) -> tuple[float, Any]:
        return clock.timed(what, self.device)

    def add(self, name: str, seconds: list[float], size: int, **more: Any) -> float:
        """The best of the seconds; `size` in bytes, 0 where there is no speed to tell."""
        best = min(seconds)
        row: Row = {
            "name": name,
            "best_s": best,
            "median_s": statistics.median(seconds),
            "runs": len(seconds),
        }
        if size:
            row |= {"bytes": size, "gb_per_s": size / best / 1e9}
        row |= more
        self.rows.append(row)
        speed = f"{row['gb_per_s']:8.2f} GB/s" if size else " " * 13
        extra = "  ".join(f"{key} {value}" for key, value in more.items())
        say(f"{name:58s} best {best:9.4f} s  median {row['median_s']:9.4f} s {speed}  {extra}")
        return best
