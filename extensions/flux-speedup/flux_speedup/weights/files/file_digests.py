"""The sha256 of weight files: known, coming with a background pass, or computed where nothing else helps."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from ...storage.sidecar import Sidecar, Stamp
from .readahead import Outcome


class _Pass:
    """A background pass over one file, expected or under way."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.begun = False
        self.over = threading.Event()


class FileDigests:
    """Digests by file. `look` and `ended` belong to a `ReadAhead`, whose thread computes what is expected.

    All else may be called from any thread. A digest counts for the file as it is now, never for an older one.
    """

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._lock = threading.Lock()
        self._passes: dict[Path, _Pass] = {}

    def expect(self, file: Path | str) -> None:
        """A background pass over the file is about to begin."""
        with self._lock:
            self._passes[_real(file)] = _Pass()

    def expected(self, file: Path | str) -> bool:
        """Whether a background pass is still to bring the file's digest."""
        with self._lock:
            return _real(file) in self._passes

    def look(self, path: Path, piece: memoryview) -> None:
        """The next piece of a file."""
        with self._lock:
            found = self._passes.get(_real(path))
            if found is None:
                return
            found.begun = True
        found.hash.update(piece)

    def ended(self, outcome: Outcome) -> None:
        """A pass is over; what it brought is kept if it saw the whole file."""
        path = _real(outcome.path)
        with self._lock:
            found = self._passes.get(path)
        if found is None:
            return
        try:
            if outcome.complete:
                self._sidecar.put(path, Stamp(outcome.bytes, outcome.mtime_ns), found.hash.hexdigest())
        finally:
            with self._lock:
                self._passes.pop(path, None)
            found.over.set()

    def known(self, file: Path | str) -> str | None:
        """The digest of the file as it is now, if we have it."""
        path = _real(file)
        stamp = Stamp.of(path)
        return None if stamp is None else self._sidecar.get(path, stamp)

    def of(self, file: Path | str, compute: Callable[[], str]) -> str:
        """The digest: kept, or that of the pass that is under way, or computed here and kept."""
        found = self.known(file)
        if found is None and (under_way := self._under_way(_real(file))) is not None:
            under_way.over.wait()
            found = self.known(file)
        return self.computed(file, compute) if found is None else found

    def computed(self, file: Path | str, compute: Callable[[], str]) -> str:
        """What `compute` answers, kept if the file stayed as it was."""
        path = _real(file)
        before = Stamp.of(path)
        digest = compute()
        if before is not None and before == Stamp.of(path):
            self._sidecar.put(path, before, digest)
        return digest

    def _under_way(self, path: Path) -> _Pass | None:
        """The pass over a file, if it has begun; one that has not is not waited for, and need not hash."""
        with self._lock:
            found = self._passes.get(path)
            if found is None or found.begun:
                return found
            del self._passes[path]
            return None


def _real(file: Path | str) -> Path:
    return Path(os.path.realpath(file))
