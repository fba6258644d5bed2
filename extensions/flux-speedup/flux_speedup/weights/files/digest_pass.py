"""One pass over a file in the background, for its sha256."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .gate import Gate
from .step_back import step_back

CHUNK = 16 << 20
"""Bytes at a time; reading and hashing a piece of this size leaves the interpreter to others meanwhile."""
_log = logging.getLogger("flux_speedup")

Pieces = Callable[[Path], Iterator[memoryview]]


def pieces(path: Path) -> Iterator[memoryview]:
    """The bytes of a file in order, each good until the next. Raises OSError, also where it changed meanwhile.

    What comes next is read meanwhile: reading takes a sixth of hashing.
    """
    buffers = [memoryview(bytearray(CHUNK)) for _ in range(2)]
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(1, "flux-speedup-digest-read") as reader:
        before, done = os.fstat(file.fileno()), 0
        under_way = reader.submit(file.readinto, buffers[0])
        while count := under_way.result():
            buffers.reverse()
            under_way = reader.submit(file.readinto, buffers[0])
            yield buffers[1][:count]
            done += count
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (done, after.st_mtime_ns):
        raise OSError(f"{path}: the file changed meanwhile")


class DigestPass:
    """A thread of its own, last in line for the cores; never raises.

    `digest` is there when it is over, None where there is none. Who waits for it does the rest himself.
    """

    def __init__(self, path: Path, gate: Gate, ended: Callable[[DigestPass], None], read: Pieces = pieces):
        self.path = path
        self.digest: str | None = None
        self._gate = gate
        self._ended = ended
        self._read = read
        self._pieces: Iterator[memoryview] | None = None
        self._found = hashlib.sha256()
        self._one = threading.Lock()
        self._waited_for = False
        self._stopped = False
        self._over = False
        self._thread = threading.Thread(target=self._work, name="flux-speedup-digest", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def stop(self) -> None:
        """End without a digest, soon."""
        self._stopped = True
        self._gate.look_again()

    def wait(self) -> str | None:
        """Its digest, at this thread's priority; gives way to loads only."""
        self._waited_for = True
        self._gate.look_again()
        while not self._over:
            self._gate.wait_for_loads(lambda: self._stopped)
            self._take()
        return self.digest

    def _work(self) -> None:
        step_back()
        while not self._over:
            self._gate.wait(lambda: self._stopped or self._waited_for)
            if self._waited_for:
                return
            self._take()

    def _take(self) -> None:
        """One piece, or the end."""
        with self._one:
            if self._over:
                return
            try:
                if self._pieces is None:
                    self._pieces = self._read(self.path)
                piece = None if self._stopped else next(self._pieces, None)
                if piece is not None:
                    self._found.update(piece)
                    return
                self.digest = None if self._stopped else self._found.hexdigest()
            except (
                Exception
            ) as error:  # a courtesy in the background: whoever needs the digest computes it then
                _log.info("no digest in the background (%s)", error)
            try:
                self._ended(self)
            finally:
                self._over = True
