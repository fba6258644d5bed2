"""The sha256 of a file that is open, remembered for as long as its size, times and sample stay."""

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

    def known(self, path: Path, descriptor: int) -> str | None:
        """The digest of the open file as it is now, if it was computed before. Raises OSError."""
        return self._sidecar.get(path, Stamp.of_open(descriptor))

    def of(self, path: Path, descriptor: int) -> str:
        """The digest of the open file. Raises OSError where it cannot be read."""
        stamp = Stamp.of_open(descriptor)
        found = self._sidecar.get(path, stamp)
        if found is not None:
            return found
        found = _sha256(descriptor)
        if Stamp.of_open(descriptor) == stamp:
            self._sidecar.put(path, stamp, found)
        return found


def _sha256(descriptor: int) -> str:
    import hashlib

    whole = hashlib.sha256()
    os.lseek(descriptor, 0, os.SEEK_SET)
    while piece := os.read(descriptor, CHUNK):
        whole.update(piece)
    return whole.hexdigest()
