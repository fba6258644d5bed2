"""Three streams of one device: copies, making something of what has come, computing; and marks to wait for.

Nothing here waits for the device but `wait` and `drain`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from ..transfer.lane import is_plain
from .ring import Mark


class Timeline(Protocol):
    """A device's queues as the stream sees them. Safe from any thread."""

    pinned: bool
    device: torch.device

    def memory(self, size: int) -> torch.Tensor:
        """New device bytes that copies may go into. Raises torch.OutOfMemoryError."""
        ...

    def copying(self, after: Sequence[Mark]) -> AbstractContextManager[object]:
        """What is queued in here are copies; they begin when all of `after` is over."""
        ...

    def copied(self) -> Mark:
        """A mark after all copies queued so far."""
        ...

    def making(self) -> AbstractContextManager[object]:
        """What is queued in here begins when all copies queued so far are over, beside those that follow."""
        ...

    def made(self) -> Mark:
        """A mark after all making queued so far."""
        ...

    def computing(self) -> Any:
        """The stream that the caller computes on now."""
        ...

    def computing_waits(self, stream: Any, mark: Mark) -> None:
        """What is queued for computing on that stream from here on begins after the mark."""
        ...

    def computed(self, stream: Any) -> Mark:
        """A mark after all computing queued on that stream so far."""
        ...

    def back(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """The caller's computing queues a copy from the device to `target`, in RAM."""
        ...

    def stamp(self) -> Any:
        """A mark after all the caller's computing so far, with the time at which it is reached."""
        ...

    def seconds(self, first: Any, then: Any) -> float | None:
        """Between two stamps; None while they are not reached."""
        ...

    def wait(self, mark: Mark) -> None:
        """Wait until it is reached; None: nothing to wait for."""
        ...

    def reached(self, mark: Mark) -> bool:
        """Whether there is nothing to wait for."""
        ...

    def drain(self) -> None:
        """Wait until neither copies nor making touch anything any more."""
        ...


class PlainTimeline:
    """A device without streams of ours: everything is over when it was called."""

    pinned = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def memory(self, size: int) -> torch.Tensor:
        with torch.inference_mode(False):
            return torch.empty(size, dtype=torch.uint8, device=self.device)

    def copying(self, after: Sequence[Mark]) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    def copied(self) -> Mark:
        return None

    def making(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    def made(self) -> Mark:
        return None

    def computing(self) -> Any:
        return None

    def computing_waits(self, stream: Any, mark: Mark) -> None:
        return

    def computed(self, stream: Any) -> Mark:
        return None

    def back(self, target: torch.Tensor, source: torch.Tensor) -> None:
        _back(target, source)

    def stamp(self) -> Any:
        return time.perf_counter()

    def seconds(self, first: Any, then: Any) -> float | None:
        return float(then - first)

    def wait(self, mark: Mark) -> None:
        return

    def reached(self, mark: Mark) -> bool:
        return True

    def drain(self) -> None:
        return


class CudaTimeline:
    """CUDA (ROCm too). Memory belongs to the stream it was made on, so record_stream is not needed."""

    pinned = True
    _streams: dict[tuple[Any, torch.device], Any] = {}  # noqa: RUF012 - two streams a device and process

    def __init__(self, device: torch.device, *, module: Any = None) -> None:
        """`module`: torch.cuda."""
        self._module: Any = module or torch.cuda
        if device.index is None:
            device = torch.device(device.type, self._module.current_device())
        self.device = device
        key = (self._module, device)
        if key not in self._streams:
            # What was made is waited for: it is not to stand in line behind what computes.
            self._streams[key] = self._module.Stream(device), self._module.Stream(device, priority=-1)
        self._copies, self._makes = self._streams[key]

    def memory(self, size: int) -> torch.Tensor:
        with torch.inference_mode(False):
            made = torch.empty(size, dtype=torch.uint8, device=self.device)
        # A block that the allocator hands out may still be read by work queued before it was freed.
        self._copies.wait_stream(self.computing())
        return made

    @contextlib.contextmanager
    def _on_copies(self, after: Sequence[Mark]) -> Any:
        for mark in after:
            self._copies.wait_event(mark)
        with self._module.stream(self._copies):
            yield

    def copying(self, after: Sequence[Mark]) -> AbstractContextManager[object]:
        found: AbstractContextManager[object] = self._on_copies(after)
        return found

    def copied(self) -> Mark:
        return self._copies.record_event()

    def making(self) -> AbstractContextManager[object]:
        self._makes.wait_stream(self._copies)
        found: AbstractContextManager[object] = self._module.stream(self._makes)
        return found

    def made(self) -> Mark:
        return self._makes.record_event()

    def computing(self) -> Any:
        return self._module.current_stream(self.device.index)  # a number is looked up faster than a device

    def computing_waits(self, stream: Any, mark: Mark) -> None:
        stream.wait_event(mark)

    def computed(self, stream: Any) -> Mark:
        return stream.record_event()

    def back(self, target: torch.Tensor, source: torch.Tensor) -> None:
        _back(target, source)

    def stamp(self) -> Any:
        event = self._module.Event(enable_timing=True)
        event.record(self.computing())
        return event

    def seconds(self, first: Any, then: Any) -> float | None:
        return first.elapsed_time(then) / 1e3 if then.query() else None

    def wait(self, mark: Mark) -> None:
        if mark is not None:
            mark.synchronize()

    def reached(self, mark: Mark) -> bool:
        return mark is None or bool(mark.query())

    def drain(self) -> None:
        self._copies.synchronize()
        self._makes.synchronize()


def _back(target: torch.Tensor, source: torch.Tensor) -> None:
    with torch.inference_mode():
        target.copy_(source, non_blocking=True)


def timeline_for(device: torch.device) -> Timeline | None:
    """The timeline of a device; None for a kind that has none."""
    if is_plain(device.type):
        return PlainTimeline(device)
    return CudaTimeline(device) if device.type == "cuda" else None
