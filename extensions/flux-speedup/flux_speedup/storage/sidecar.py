"""The sha256 of files, kept in a small JSON file: one entry a path, good while the file is as it was."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import json_file, whole_file
from .sample import sample

MOST_BYTES = 4 << 20
MOST_FILES = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger("flux_speedup")


@dataclass(frozen=True)
class Stamp:
    """What tells that a file is as it was: size in bytes, times in nanoseconds, a sample of its bytes.

    `ctime_ns` is 0 on Windows, which has none: there, and where clocks are coarse, the sample decides.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    sample: str

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """The file's now; None where it cannot be reached, or is none."""
        try:
            if not path.is_file():
                return None
            with path.open("rb", buffering=0) as file:
                return cls.of_open(file.fileno())
        except OSError:
            return None

    @classmethod
    def of_open(cls, descriptor: int) -> Stamp:
        """That of an open file. Raises OSError."""
        stat = os.fstat(descriptor)
        ctime = 0 if sys.platform == "win32" else stat.st_ctime_ns
        return cls(stat.st_size, stat.st_mtime_ns, ctime, sample(descriptor, stat.st_size))


@dataclass(frozen=True)
class Place:
    """Which file it is, whatever its names: file system, number there, count of names. The number may be 0."""

    device: int
    inode: int
    links: int

    @classmethod
    def of(cls, path: Path) -> Place | None:
        """The file's now; None where it cannot be reached, or files have no numbers."""
        try:
            stat = path.stat()
        except OSError:
            return None
        return cls(stat.st_dev, stat.st_ino, stat.st_nlink) if stat.st_ino else None


@dataclass(frozen=True)
class _Entry:
    stamp: Stamp
    sha256: str
    place: Place | None = None

    def is_of(self, stamp: Stamp, place: Place, *, other_name: bool) -> bool:
        """Whether it is of the same file, and of its bytes as they are now.

        A ctime that moved proves a write only where no name came or went: names are part of what it dates.
        """
        ours = self.place
        if ours is None or (ours.device, ours.inode) != (place.device, place.inode):
            return False
        renamed = other_name or ours.links != place.links
        return stamp == (dataclasses.replace(self.stamp, ctime_ns=stamp.ctime_ns) if renamed else self.stamp)


class Sidecar:
    """Read whenever it has changed, written anew as a whole at every `put`. Never raises; safe from any thread.

    `file` None: kept in memory only, as it is where the file cannot be written. What another process wrote
    meanwhile is kept, and found.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._seen: tuple[int, int] | None = None  # times and size of the file when it was read
        self._said: set[str] = set()

    def get(self, path: Path, stamp: Stamp, place: Place | None = None) -> str | None:
        """The sha256 of the file at `path` as it was with that stamp.

        With its place, also that of the same file under another name, or from before it got or lost one.
        """
        with self._lock:
            self._look_again()
            found = self._entries.get(str(path))
            if found is not None and found.stamp == stamp:
                return found.sha256
            for name, entry in self._entries.items() if place is not None else ():
                if place is not None and entry.is_of(stamp, place, other_name=name != str(path)):
                    return entry.sha256
        return None

    def put(self, path: Path, stamp: Stamp, sha256: str, place: Place | None = None) -> None:
        """Keep it; the oldest entries go where there are too many."""
        with self._lock:
            entries = {**self._entries, **self._read()}
            entries.pop(str(path), None)
            entries[str(path)] = _Entry(stamp, sha256, place)
            self._entries = dict(list(entries.items())[-MOST_FILES:])
            self._write()

    def _look_again(self) -> None:
        try:
            stat = self._file.stat() if self._file is not None else None
        except OSError:
            return
        if stat is not None and (stat.st_mtime_ns, stat.st_size) != self._seen:
            self._seen = stat.st_mtime_ns, stat.st_size
            self._entries = {**self._entries, **self._read()}

    def _read(self) -> dict[str, _Entry]:
        if self._file is None:
            return {}
        try:
            files = json_file.read(self._file, MOST_BYTES).get("files")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self._say("cannot be read", error, "digests are computed again")
            return {}
        rows = files.items() if isinstance(files, dict) else ()
        return {path: entry for path, row in rows if (entry := _entry(row)) is not None}

    def _write(self) -> None:
        if self._file is None:
            return
        files = {
            path: {**dataclasses.asdict(e.stamp), "sha256": e.sha256, **_as_row(e.place)}
            for path, e in self._entries.items()
        }
        try:
            whole_file.write(self._file, json.dumps({"files": files}, indent=1))
        except (OSError, ValueError) as error:
            self._say("cannot be written", error, "digests are kept until the end")

    def _say(self, what: str, error: Exception, then: str) -> None:
        """Once: it is read and written for every file that is hashed."""
        if what not in self._said:
            self._said.add(what)
            _log.info("%s: %s (%s); %s", self._file, what, error, then)


def _entry(row: object) -> _Entry | None:
    """A row of the file, None where it is not one of ours."""
    if not isinstance(row, dict):
        return None
    fields: list[Any] = [row.get(field.name) for field in dataclasses.fields(Stamp)]
    sha256 = row.get("sha256")
    if [type(field) for field in fields] != [int, int, int, str] or not isinstance(sha256, str):
        return None
    return _Entry(Stamp(*fields), sha256, _place(row)) if _SHA256.fullmatch(sha256) else None


def _as_row(place: Place | None) -> dict[str, int]:
    return dataclasses.asdict(place) if place is not None else {}


def _place(row: dict[str, Any]) -> Place | None:
    fields = [row.get(field.name) for field in dataclasses.fields(Place)]
    if [type(field) for field in fields] != [int, int, int]:
        return None
    device, inode, links = fields
    return Place(int(device or 0), int(inode or 0), int(links or 0))
