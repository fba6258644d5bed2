"""The sha256 of a file that is open, remembered for as long as its size and time stay."""

from __future__ import annotations

import os
from pathlib import Path

from ..storage.sidecar import Sidecar, Stamp

CHUNK = 1 << 20


class Digests:
    """Computed when first asked for, on the asking thread; about a second a GB. Safe from any thread."""

    def __init__(self, file: Path | None) -> None:
        """`file`: where they are kept; None keeps them in memory."""
        self._sidecar = Sidecar(file)

    def known(self, path: Path, stat: os.stat_result) -> str | None:
        """The digest of the file as `stat` describes it, if it was computed before."""
        return self._sidecar.get(path, Stamp(stat.st_size, stat.st_mtime_ns))

    def of(self, path: Path, descriptor: int) -> str:
        """The digest of the open file. Raises OSError where it cannot be read."""
        stat = os.fstat(descriptor)
        found = self.known(path, stat)
        if found is not None:
            return found
        found = _sha256(descriptor)
        after = os.fstat(descriptor)
        if (after.st_size, after.st_mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            self._sidecar.put(path, Stamp(stat.st_size, stat.st_mtime_ns), found)
        return found


def _sha256(descriptor: int) -> str:
    import hashlib

    whole = hashlib.sha256()
    os.lseek(descriptor, 0, os.SEEK_SET)
    while piece := os.read(descriptor, CHUNK):
        whole.update(piece)
    return whole.hexdigest()
