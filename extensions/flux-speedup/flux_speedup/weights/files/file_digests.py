"""The sha256 of weight files: known, coming with a background pass, or computed where nothing else helps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...storage.sidecar import Place, Sidecar, Stamp
from .digest_pass import DigestPass, Pieces, pieces
from .early_hashing import is_at_work
from .gate import Gate
from .hub_names import digest_in_name
from .joined_pass import JoinedPass


@dataclass(frozen=True)
class _File:
    """A file as it is now, links followed."""

    path: Path
    stamp: Stamp
    place: Place | None

    @classmethod
    def of(cls, file: Path | str) -> _File | None:
        """None where it cannot be reached."""
        path = Path(os.path.realpath(file))
        stamp = Stamp.of(path)
        return None if stamp is None else cls(path, stamp, Place.of(path))

    @property
    def key(self) -> object:
        """The same for every name of the file."""
        place = self.place
        return self.path if place is None else (place.device, place.inode)

    def same_bytes(self, other: _File | None) -> bool:
        """Whether nothing was written since; another name may have come or gone."""
        if other is None or self.key != other.key:
            return False
        mine, its = self.stamp, other.stamp
        return (mine.size, mine.mtime_ns, mine.sample) == (its.size, its.mtime_ns, its.sample)


class FileDigests:
    """Digests by file; safe from any thread. One counts for the file as it is now, never for an older one.

    A file is hashed once, however many names it has or gets. `gate`: what passes in the background give way to.
    `read`: how a pass reads a file. `early`: the folder of a process that may have begun before us.
    """

    def __init__(
        self, sidecar: Sidecar, gate: Gate | None = None, read: Pieces = pieces, early: Path | None = None
    ) -> None:
        self.gate = gate or Gate()
        self._sidecar = sidecar
        self._read = read
        self._early = early
        self._lock = threading.Lock()
        self._passes: dict[object, tuple[_File, DigestPass]] = {}

    def known(self, file: Path | str) -> str | None:
        """The digest of the file as it is now, if we have it without reading the file."""
        now = _File.of(file)
        return None if now is None else self._known(now)

    def begin(self, file: Path | str) -> None:
        """A background pass over the file, unless its digest is known, on its way, or cannot be had."""
        now = _File.of(file)
        if now is None or self._known(now) is not None:
            return
        with self._lock:
            under_way = self._passes.get(now.key)
            if under_way is not None and under_way[0].same_bytes(now):
                return
            made = self._made(now)
            self._passes[now.key] = now, made
        made.start()

    def under_way(self, file: Path | str) -> bool:
        """Whether a background pass is still to bring the file's digest."""
        return self._pass(file) is not None

    def wait(self, file: Path | str) -> None:
        """Until the background pass over the file is over, if one is under way."""
        under_way = self._pass(file)
        if under_way is not None:
            under_way.wait()

    def of(self, file: Path | str, compute: Callable[[], str]) -> str:
        """The digest: known, or that of the pass that is under way, or computed here and kept."""
        found = self.known(file)
        if found is None:
            self.wait(file)
            found = self.known(file)
        return self.computed(file, compute) if found is None else found

    def computed(self, file: Path | str, compute: Callable[[], str]) -> str:
        """What `compute` answers, kept if the file stayed as it was."""
        before = _File.of(file)
        digest = compute()
        if before is not None and before == _File.of(file):
            self._sidecar.put(before.path, before.stamp, digest, before.place)
        return digest

    def stop(self) -> None:
        """All passes end soon; who waits for one computes by himself."""
        with self._lock:
            passes = [made for _, made in self._passes.values()]
        for made in passes:
            made.stop()

    def _known(self, now: _File) -> str | None:
        return self._sidecar.get(now.path, now.stamp, now.place) or digest_in_name(now.path)

    def _made(self, now: _File) -> DigestPass:
        def ended(over: DigestPass) -> None:
            self._ended(now, over)

        def at_work() -> bool:
            return is_at_work(self._early, now.path)

        if not at_work():
            return DigestPass(now.path, self.gate, ended, self._read)
        return JoinedPass(
            now.path, self.gate, ended, self._read, at_work=at_work, known=lambda: self._known(now)
        )

    def _pass(self, file: Path | str) -> DigestPass | None:
        now = _File.of(file)
        with self._lock:
            under_way = self._passes.get(now.key) if now is not None else None
        return under_way[1] if under_way is not None else None

    def _ended(self, begun: _File, over: DigestPass) -> None:
        with self._lock:
            if self._passes.get(begun.key) != (begun, over):
                return  # its bytes were replaced since, and another pass has begun
        if over.digest is not None and begun == _File.of(begun.path):
            self._sidecar.put(begun.path, begun.stamp, over.digest, begun.place)
        with self._lock:
            if self._passes.get(begun.key) == (begun, over):
                del self._passes[begun.key]
