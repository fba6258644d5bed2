"""Seconds an iteration, and what of them waited for weights, of every sampler of a WebUI of this family.

The sampler reports each iteration to the WebUI (`callback_state`, which moves its progress bar); a mark on the
device's own stream is left there, and read when somebody asks. Nothing waits for the device.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...patching.change import Change, Function
from ...stats.requests import Steps
from ...stats.tracking import Tracking

SAMPLERS = "modules.sd_samplers_common"


class Streamed(Protocol):
    """A model of which a part comes while it computes.

    brought: bytes that came so far. resident, coming: bytes that stay, and that come. ring: bytes on the device
    that they come through; held: of these, those that take memory now. source: where from, in words.
    """

    name: str

    @property
    def brought(self) -> int: ...
    @property
    def resident(self) -> int: ...
    @property
    def coming(self) -> int: ...
    @property
    def ring(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def source(self) -> str: ...

    def waiting(self) -> Callable[[], float | None]:
        """What answers, once that is known, which share of a round under way now computing waits for weights."""
        ...


Streams = Callable[[], Sequence[Streamed]]


class Sampling:
    """The wrapped functions of one process. `streams`: models of which a part streams now."""

    def __init__(self, tracking: Tracking, streams: Streams) -> None:
        self._tracking = tracking
        self._streams = streams
        self._thread = threading.local()

    def changes(self) -> list[Change]:
        """Whatever of it a host has."""
        return [
            Function(SAMPLERS, "Sampler.launch_sampling", self._wrap_launch),
            Function(SAMPLERS, "Sampler.callback_state", self._wrap_callback),
        ]

    def _wrap_launch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def launch_sampling(*args: Any, **kwargs: Any) -> Any:
            before = getattr(self._thread, "run", None)
            self._thread.run = run = Run(self._streams(), _stamps())
            self._tracking.sampled(run.steps)
            try:
                return original(*args, **kwargs)
            finally:
                run.end()
                self._thread.run = before

        return launch_sampling

    def _wrap_callback(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def callback_state(*args: Any, **kwargs: Any) -> Any:
            run: Run | None = getattr(self._thread, "run", None)
            if run is not None:
                run.step()
            return original(*args, **kwargs)

        return callback_state


class Run:
    """One sampling. `stamp`: a mark of now on the device; `between`: seconds between two, None before they are."""

    def __init__(
        self,
        streams: Sequence[Streamed],
        stamps: tuple[Callable[[], Any], Callable[[Any, Any], float | None]],
    ) -> None:
        self._stamp, self._between = stamps
        self._streams = [(each, each.brought, each.waiting()) for each in streams]
        self._bytes: int | None = None
        self._waiting: Callable[[], float | None] | None = None
        self._count = 0
        self._began = self._first = self._last = self._stamp()

    def step(self) -> None:
        """An iteration was reported."""
        self._count += 1
        self._last = self._stamp()
        if self._count == 1:
            self._first = self._last

    def end(self) -> None:
        """No iteration follows; models are not held any longer."""
        self._bytes, self._waiting = self._brought(), self._waits()
        self._streams.clear()

    def steps(self) -> Steps | None:
        """The iterations so far, as far as the device has reached them."""
        count = self._count
        since, among = (self._first, count - 1) if count > 1 else (self._began, 1)
        spent = self._between(since, self._last) if count else None
        if spent is None:
            return None
        each, running = spent / among, self._bytes is None
        brought = self._brought() if self._bytes is None else self._bytes
        waiting = self._waits() if running else self._waiting
        share = waiting() if waiting is not None else None
        return Steps(count, each, None if share is None else share * each, brought // count)

    def _brought(self) -> int:
        return sum(each.brought - before for each, before, _ in self._streams)

    def _waits(self) -> Callable[[], float | None] | None:
        """Of the model that streamed in here."""
        return next((waiting for each, before, waiting in self._streams if each.brought > before), None)


def _stamps() -> tuple[Callable[[], Any], Callable[[Any, Any], float | None]]:
    """On a CUDA device its events; elsewhere the clock, when the iteration is reported."""
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return time.perf_counter, lambda first, then: float(then - first)

    def stamp() -> Any:
        event = cuda.Event(enable_timing=True)
        event.record()
        return event

    return stamp, lambda first, then: first.elapsed_time(then) / 1e3 if then.query() else None
