"""Where the seconds of loads go: until copies are queued, until they are over, and what comes after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.transfer.lane import Lane, lane_for

from .timing import Timing


class Watched:
    """A lane that remembers when its first and its last copy were queued, and when all of them were over."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.first = self.last = self.over = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lane, name)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self.first = self.first or time.perf_counter()
        self._lane.copy(target, source)
        self.last = time.perf_counter()

    def copy_all(self, targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
        self.first = self.first or time.perf_counter()
        self._lane.copy_all(targets, sources)
        self.last = time.perf_counter()

    def finish(self) -> None:
        self._lane.finish()
        self.over = time.perf_counter()


class Watch:
    """Loads through watched lanes. `seconds`: of each load, until the device was done."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._lane: Watched | None = None
        self._stages: list[dict[str, float]] = []
        self.seconds: list[float] = []

    def lane(self, device: torch.device) -> Lane:
        """For the residency whose loads are watched."""
        self._lane = Watched(lane_for(device))
        lane: Any = self._lane
        return lane

    def load(self, residency: Residency) -> None:
        seconds, begun = self._timing.timed(
            lambda: (time.perf_counter(), residency.load(self._timing.device))[0]
        )
        self.seconds.append(seconds)
        lane = self._lane
        assert lane is not None
        names = "first_copy_queued", "last_copy_queued", "copies_over"
        moments: Sequence[float] = (lane.first, lane.last, lane.over)
        self._stages.append({name: round(at - begun, 5) for name, at in zip(names, moments, strict=True)})

    def stages(self) -> dict[str, float]:
        """Of the load that took least: seconds since its call."""
        return self._stages[self.seconds.index(min(self.seconds))]
