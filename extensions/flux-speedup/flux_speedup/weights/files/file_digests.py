"""The sha256 of weight files: known, coming with a background pass, or computed where nothing else helps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from ...storage.sidecar import Sidecar, Stamp
from .digest_pass import DigestPass, Pieces, pieces
from .gate import Gate
from .hub_names import digest_in_name


class FileDigests:
    """Digests by file; safe from any thread. One counts for the file as it is now, never for an older one.

    `gate`: what passes in the background give way to. `read`: how a pass reads a file.
    """

    def __init__(self, sidecar: Sidecar, gate: Gate | None = None, read: Pieces = pieces) -> None:
        self.gate = gate or Gate()
        self._sidecar = sidecar
        self._read = read
        self._lock = threading.Lock()
        self._passes: dict[Path, tuple[Stamp, DigestPass]] = {}

    def known(self, file: Path | str) -> str | None:
        """The digest of the file as it is now, if we have it without reading the file."""
        path = _real(file)
        stamp = Stamp.of(path)
        if stamp is None:
            return None
        return self._sidecar.get(path, stamp) or digest_in_name(path)

    def begin(self, file: Path | str) -> None:
        """A background pass over the file, unless its digest is known, on its way, or cannot be had."""
        path = _real(file)
        stamp = Stamp.of(path)
        if stamp is None or self.known(path) is not None:
            return
        made = DigestPass(path, self.gate, self._ended, self._read)
        with self._lock:
            under_way = self._passes.get(path)
            if under_way is not None and under_way[0] == stamp:
                return
            self._passes[path] = stamp, made
        made.start()

    def under_way(self, file: Path | str) -> bool:
        """Whether a background pass is still to bring the file's digest."""
        with self._lock:
            return _real(file) in self._passes

    def wait(self, file: Path | str) -> None:
        """Until the background pass over the file is over, if one is under way."""
        with self._lock:
            under_way = self._passes.get(_real(file))
        if under_way is not None:
            under_way[1].wait()

    def of(self, file: Path | str, compute: Callable[[], str]) -> str:
        """The digest: known, or that of the pass that is under way, or computed here and kept."""
        found = self.known(file)
        if found is None:
            self.wait(file)
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

    def stop(self) -> None:
        """All passes end soon; who waits for one computes by himself."""
        with self._lock:
            passes = [made for _, made in self._passes.values()]
        for made in passes:
            made.stop()

    def _ended(self, over: DigestPass) -> None:
        with self._lock:
            stamp, newest = self._passes.get(over.path, (None, None))
        if newest is not over or stamp is None:
            return  # the file was replaced since, and another pass has begun
        if over.digest is not None and Stamp.of(over.path) == stamp:
            self._sidecar.put(over.path, stamp, over.digest)
        with self._lock:
            if self._passes.get(over.path) == (stamp, over):
                del self._passes[over.path]


def _real(file: Path | str) -> Path:
    return Path(os.path.realpath(file))
