"""What makes a file the file it was: its stat and, where that proves nothing, a sample of its bytes."""

from __future__ import annotations

import os
import stat as modes
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from ...storage.sample import sample

_OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
# What Windows calls ctime is the time of creation; nobody's clock ticks there when a file is written.
HAS_CTIME = sys.platform != "win32"
# A write right after another one may show the same time: clocks of file systems tick in milliseconds or seconds.
_TICK_NS = 2_500_000_000


@dataclass(frozen=True)
class FileIdentity:
    """A file and its content at one moment. Equal ones are the same bytes; times are in nanoseconds.

    `ctime_ns`: 0 where the system has none. It cannot be put back as `mtime_ns` can. `place`: the real path, on
    file systems without inode numbers, or with ones that differ from look to look; "" elsewhere. `sample`: of
    bytes all over the file; "" for what is no regular file. `settled`: whether times were old enough to tell
    a later write apart. `around`: what else changes the ctime.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    place: str = ""
    sample: str = ""
    settled: bool = field(default=False, compare=False, repr=False)
    around: tuple[object, ...] = field(default=(), compare=False, repr=False)

    def __hash__(self) -> int:
        # Asked for each tensor of each load; equal ones have it alike.
        return hash((self.inode, self.mtime_ns))

    @classmethod
    def of(cls, descriptor: int, path: Path | str) -> FileIdentity:
        """That of an open file, which was found as `path`. Raises OSError."""
        first, again = os.fstat(descriptor), os.fstat(descriptor)
        device, inode, place = again.st_dev, again.st_ino, ""
        if not inode or inode != first.st_ino or _has_another_inode(path, again):
            device, inode, place = 0, 0, os.path.realpath(path)
        ctime = ctime_of(again)
        settled = bool(inode) and HAS_CTIME and ctime < time.time_ns() - _TICK_NS
        times = again.st_size, again.st_mtime_ns, ctime
        taken = ""
        if modes.S_ISREG(again.st_mode):
            # As long as such times stay, the bytes do: one sample is enough.
            known = (device, inode, *times) if settled else None
            taken = sample(descriptor, again.st_size, known)
        return cls(device, inode, *times, place, taken, settled, _around(descriptor, again))

    def has_times_of(self, stat: os.stat_result) -> bool:
        """Whether size and times are the same."""
        return (stat.st_size, stat.st_mtime_ns, ctime_of(stat)) == (self.size, self.mtime_ns, self.ctime_ns)

    def is_still(self, descriptor: int) -> bool:
        """Whether an open file, which was this one, has the same bytes still. Raises OSError.

        Not asked: device and inode, as a descriptor leads to one file for good. A new ctime alone proves a
        write, unless the file got another name, owner or mode as well: then the sample decides.
        """
        now = os.fstat(descriptor)
        if (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            return False
        if ctime_of(now) != self.ctime_ns and _around(descriptor, now) == self.around:
            return False
        if ctime_of(now) == self.ctime_ns and self.settled:
            return True
        return sample(descriptor, now.st_size) == self.sample


def identity(path: Path | str) -> FileIdentity | None:
    """The identity of a file or folder; None where there is none or it cannot be reached."""
    try:
        found = os.stat(path)  # noqa: PTH116 - any string, null bytes too
        if not modes.S_ISREG(found.st_mode):  # who opens a FIFO may wait for ever
            return FileIdentity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, ctime_of(found))
        descriptor = os.open(path, _OPEN)
        try:
            return FileIdentity.of(descriptor, path)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return None


def ctime_of(stat: os.stat_result) -> int:
    """The time of the last change of any kind, in ns; 0 where the system has none."""
    return stat.st_ctime_ns if HAS_CTIME else 0


def _has_another_inode(path: Path | str, stat: os.stat_result) -> bool:
    """Whether the same file shows another inode by its name: then such numbers mean nothing here."""
    try:
        named = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return False
    times = (named.st_size, named.st_mtime_ns, ctime_of(named))
    return named.st_ino != stat.st_ino and times == (stat.st_size, stat.st_mtime_ns, ctime_of(stat))


def _around(descriptor: int, stat: os.stat_result) -> tuple[object, ...]:
    try:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        name = ""  # no such folder on this system
    return stat.st_nlink, stat.st_mode, stat.st_uid, stat.st_gid, name
