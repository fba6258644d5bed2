"""Reads weight files into the page cache in the background, so that the first load is a warm one."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...ram import available
from ...stats.report import figures
from ..transfer.plan import CHUNK

HEADROOM = 1.2
_log = logging.getLogger("flux_speedup")

Look = Callable[["Path", "memoryview"], None]
"""Told every piece of a file in order, on the reading thread (a hash can come along)."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file: `bytes` read; `complete` only if all of it was; `why` says what ended it.

    `mtime_ns`: the file's modification time, 0 where it was not complete.
    """

    path: Path
    bytes: int
    complete: bool
    why: str = ""
    mtime_ns: int = 0


def everything(path: Path) -> bool:
    """No file is left out."""
    return True


def nobody(outcome: Outcome) -> None:
    """Nobody waits for it."""


@dataclass(eq=False)
class ReadAhead:
    """One background thread over some files, in order. It never raises: a file it cannot read is left out.

    Where less RAM is available than 1.2 times what is to be read, nothing is. `paused` is for loads: they
    read the same disk. `needed` is asked on the thread before anything is read. `look` sees every byte once;
    a file that changes meanwhile is not complete. `ended` is told of every file once, whatever happens.
    """

    paths: Sequence[Path]
    look: Look | None = None
    needed: Callable[[Path], bool] = everything
    ended: Callable[[Outcome], None] = nobody
    available: Callable[[], int] = available
    chunk: int = CHUNK
    outcomes: list[Outcome] = field(default_factory=list)
    _thread: threading.Thread | None = None
    _going: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _pauses: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._going.set()

    def start(self) -> None:
        """Begin; once."""
        self._thread = threading.Thread(target=self._work, name="flux-speedup-read-ahead", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """No reading in here, but for the piece under way. Nests; safe from any thread."""
        with self._lock:
            self._pauses += 1
            self._going.clear()
        try:
            yield
        finally:
            with self._lock:
                self._pauses -= 1
                if self._pauses == 0:
                    self._going.set()

    def stop(self, timeout: float | None = None) -> None:
        """End early and wait for the thread, `timeout` seconds at most."""
        self._stopped.set()
        self._going.set()
        self.wait(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it ended within `timeout` seconds."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        waiting = list(dict.fromkeys(self.paths))
        why = "stopped"
        try:
            sizes = {path: _size(path) for path in waiting if self.needed(path)}
            if sizes and self.available() < HEADROOM * sum(sizes.values()):
                why = "too little RAM available"
                _log.info("read-ahead: off, %.1f GB do not fit into the RAM", sum(sizes.values()) / 1e9)
                return
            started = time.perf_counter()
            for path in list(waiting):
                read = self._read(path) if path in sizes else Outcome(path, 0, False, "not needed")
                waiting.remove(path)
                self._end(read)
            _tell(self.outcomes, time.perf_counter() - started)
        except Exception as error:  # a courtesy in the background: it must not be able to stop anything
            why = str(error)
            _log.info("read-ahead: off (%s)", error)
        finally:
            for path in waiting:
                self._end(Outcome(path, 0, False, why))

    def _end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.ended(outcome)

    def _read(self, path: Path) -> Outcome:
        done = 0
        try:
            buffer = memoryview(bytearray(self.chunk))
            with path.open("rb", buffering=0) as file:
                before = os.fstat(file.fileno())
                while True:
                    self._going.wait()
                    if self._stopped.is_set():
                        return Outcome(path, done, False, "stopped")
                    count = file.readinto(buffer) or 0
                    if count == 0:
                        break
                    if self.look is not None:
                        self.look(path, buffer[:count])
                    done += count
                after = os.fstat(file.fileno())
        except Exception as error:  # likewise
            _log.info("read-ahead: %s left out (%s)", path, error)
            return Outcome(path, done, False, str(error))
        changed = (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
        if changed or done != after.st_size:
            return Outcome(path, done, False, "the file changed meanwhile")
        return Outcome(path, done, True, mtime_ns=after.st_mtime_ns)


def _tell(outcomes: Sequence[Outcome], seconds: float) -> None:
    complete = [outcome.bytes for outcome in outcomes if outcome.complete]
    if complete:
        files = "1 file" if len(complete) == 1 else f"{len(complete)} files"
        _log.info("read-ahead: %s, %s", files, figures(sum(complete), seconds))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
