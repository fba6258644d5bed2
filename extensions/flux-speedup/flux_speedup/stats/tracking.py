"""Which request the code that runs right now works for: an account a thread, and those that are open."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .attribution import Account
from .events import Event
from .requests import Request, Steps
from .savings import Tally

# Kinds of events, as parts of a request.
CHARGED = {"checkpoint": "load", "move": "move", "unload": "unload"}
LOADING = ("load", "move", "unload")


@dataclass(eq=False)
class Open:
    """A request that runs. `owner`: the host's object that the innermost pass works on."""

    number: int
    kind: str
    via: str
    began: float
    account: Account
    owner: object = None
    tally: Tally = field(default_factory=Tally)
    bytes: int = 0
    images: int = 0
    failed: bool = False

    def request(self, at: float, *, running: bool) -> Request:
        sums = self.account.sums(at)
        return Request(
            self.number,
            self.kind,
            self.via,
            self.began,
            sums.seconds,
            sums.parts,
            sums.passes,
            self.bytes,
            self.images,
            running,
            self.failed,
        )


class Tracking:
    """The requests of one process. Safe from any thread; a request lives on one thread from begin to end.

    `began`, `ended` are told of each request, on its own thread.
    """

    def __init__(
        self,
        ended: Callable[[Request, Tally], None],
        clock: Callable[[], float] = time.perf_counter,
        began: Callable[[], None] = lambda: None,
    ) -> None:
        self._began = began
        self._ended = ended
        self._clock = clock
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._open: list[Open] = []

    def current(self) -> Open | None:
        """The request that this thread works for."""
        found: Open | None = getattr(self._thread, "open", None)
        return found

    def running(self) -> list[tuple[Request, Tally]]:
        """Requests that run now, the newest first."""
        with self._lock:
            at = self._clock()
            return [(each.request(at, running=True), each.tally) for each in reversed(self._open)]

    @contextmanager
    def request(self, kind: str, via: str) -> Iterator[Open]:
        """Everything on this thread in here is one request, or a part of the one that runs already."""
        known = self.current()
        if known is not None:
            yield known
            return
        self._began()
        with self._lock:
            new = Open(next(self._numbers), kind, via, time.time(), Account(self._clock()))
            self._open.append(new)
        self._thread.open = new
        try:
            yield new
        except BaseException:
            new.failed = True
            raise
        finally:
            self._thread.open = None
            with self._lock:
                self._open.remove(new)
                done = new.request(self._clock(), running=False)
            self._ended(done, new.tally)

    @contextmanager
    def run(self, name: str, owner: object) -> Iterator[None]:
        """A pass of the request on this thread; one that a detector begins is named after it."""
        found = self.current()
        if found is None:
            yield
            return
        if found.account.in_detector():
            name = f"ADetailer {found.account.detector_passes() + 1}"
        before, found.owner = found.owner, owner
        try:
            with self._stage(found, "other", name):
                yield
        finally:
            found.owner = before

    @contextmanager
    def stage(self, part: str) -> Iterator[None]:
        """What is not counted otherwise in here counts as `part`."""
        found = self.current()
        if found is None:
            yield
            return
        with self._stage(found, part, None):
            yield

    def charge(self, event: Event) -> None:
        """Something that ended right now, on this thread."""
        found, part = self.current(), CHARGED.get(event.kind)
        if found is None or part is None:
            return
        with self._lock:
            found.account.charge(self._clock(), event.seconds, part)
            found.tally = found.tally.plus(event)
            found.bytes += event.bytes if event.kind == "move" else 0

    def sampled(self, read: Callable[[], Steps | None]) -> None:
        """A sampler has begun in the pass on this thread; `read`, from any thread: its iterations so far."""
        found = self.current()
        if found is not None:
            with self._lock:
                found.account.sampled(read)

    def loading_seconds(self) -> float:
        """What loading, moving and unloading took so far in the request on this thread."""
        found = self.current()
        if found is None:
            return 0.0
        with self._lock:
            parts = found.account.sums(self._clock()).parts
        return sum(parts.get(part, 0.0) for part in LOADING)

    @contextmanager
    def _stage(self, found: Open, part: str, name: str | None) -> Iterator[None]:
        with self._lock:
            opened = found.account.open(self._clock(), part, name)
        try:
            yield
        finally:
            with self._lock:
                found.account.close(self._clock(), opened)
