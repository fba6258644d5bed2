"""Reads weight files into the page cache in the background, so that the first load is a warm one."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...ram import available, cores
from ...stats.report import figures
from ...stats.report import size as in_words
from ..transfer.plan import CHUNK
from .gate import Gate
from .step_back import step_back

HEADROOM = 1.2
THREADS = 8
_log = logging.getLogger("flux_speedup")


@dataclass(frozen=True)
class Outcome:
    """What became of one file: `bytes` read; `complete` only if all of it was; `why` says what ended it."""

    path: Path
    bytes: int
    complete: bool
    why: str = ""


def in_order(checkpoint: Path, others: Iterable[Path]) -> list[Path]:
    """A model's files as their bytes are needed: text encoders, the checkpoint, the VAE."""
    listed = list(others)
    last = [path for path in listed if any(part.lower() == "vae" for part in path.parts[:-1])]
    return [*(path for path in listed if path not in last), checkpoint, *last]


def everything(path: Path) -> bool:
    """No file is left out."""
    return True


def nobody(_: object) -> None:
    """Nobody waits for it."""


@dataclass(eq=False)
class ReadAhead:
    """Background threads over some files, one after the other. It never raises: what it cannot read is left out.

    Files are taken in order while 1.2 times what they have fits into the available RAM. `gate`: loads read the
    same disk. `needed` is asked in the background before anything is read. `begins` is told of a file when its
    reading does, `ended` of every file once, whatever happens.
    """

    paths: Sequence[Path]
    needed: Callable[[Path], bool] = everything
    begins: Callable[[Path], None] = nobody
    ended: Callable[[Outcome], None] = nobody
    gate: Gate = field(default_factory=Gate)
    available: Callable[[], int] = available
    chunk: int = CHUNK
    outcomes: list[Outcome] = field(default_factory=list)
    # Bytes, a cell for each thread that read some.
    _read_so_far: list[list[int]] = field(default_factory=list)
    _wanted: int = 0
    _thread: threading.Thread | None = None
    _stopped: bool = False

    def start(self) -> None:
        """Begin; once."""
        self._thread = threading.Thread(target=self._work, name="flux-speedup-read-ahead", daemon=True)
        self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """End early and wait for the thread, `timeout` seconds at most."""
        self._stopped = True
        self.gate.look_again()
        self.wait(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it ended within `timeout` seconds."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def progress(self) -> tuple[int, int]:
        """Bytes that are read so far, and that are to be; (0, 0) until that is known."""
        wanted = self._wanted
        return min(wanted, sum(cell[0] for cell in self._read_so_far)), wanted

    def _work(self) -> None:
        waiting = list(dict.fromkeys(self.paths))
        why = "stopped"
        try:
            wanted = [path for path in waiting if self.needed(path)]
            self._wanted = sum(_size(path) for path in wanted)
            left, started = self.available() / HEADROOM, time.perf_counter()
            for path in list(waiting):
                size = _size(path)
                if path not in wanted:
                    outcome = Outcome(path, 0, False, "not needed")
                elif size > left:
                    outcome = Outcome(path, 0, False, "too little RAM available")
                    _log.info("read-ahead: %s left out, %s do not fit into the RAM", path, in_words(size))
                else:
                    left -= size
                    outcome = self._read(path)
                waiting.remove(path)
                self._end(outcome)
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
        if self._stopped:
            return Outcome(path, 0, False, "stopped")
        self.begins(path)
        counter, counts, errors = itertools.count(), list[int](), list[Exception]()

        def read() -> None:
            step_back()
            try:
                counts.append(self._read_some(path, counter))
            except Exception as error:  # likewise
                errors.append(error)

        # Daemons: a WebUI that ends does not wait for them.
        threads = [
            threading.Thread(target=read, name="flux-speedup-read", daemon=True) for _ in range(_threads())
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done, size = sum(counts), _size(path)
        if errors:
            _log.info("read-ahead: %s left out (%s)", path, errors[0])
            return Outcome(path, done, False, str(errors[0]))
        if self._stopped:
            return Outcome(path, done, False, "stopped")
        if done != size:
            return Outcome(path, done, False, "the file changed meanwhile")
        return Outcome(path, done, True)

    def _read_some(self, path: Path, counter: itertools.count[int]) -> int:
        """Read pieces that no other thread has taken, until the file ends; the bytes read."""
        buffer, done, told = memoryview(bytearray(self.chunk)), 0, [0]
        self._read_so_far.append(told)
        with path.open("rb", buffering=0) as file:
            while True:
                self.gate.wait_for_loads(lambda: self._stopped)
                # One piece after the other is handed out, so that the disk sees the file nearly in order.
                offset = next(counter) * self.chunk
                file.seek(offset)
                count = 0 if self._stopped else self._fill(file.readinto, buffer)
                done += count
                told[0] = done
                if count < self.chunk:
                    return done

    @staticmethod
    def _fill(readinto: Callable[[memoryview], int | None], buffer: memoryview) -> int:
        done = 0
        while done < len(buffer) and (count := readinto(buffer[done:])):
            done += count
        return done


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


def _threads() -> int:
    """Two at least, as one waits for the disk; no more than may run at once, or the start itself stands still."""
    return min(THREADS, max(2, cores()))
