"""A lock between processes that the system itself releases when its holder ends, however it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

POLL_S = 0.1


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path` for the block; `waiting` is called once if another process has it.

    The file is removed at the end. Raises OSError where it cannot be made.
    """
    descriptor = _acquire(path, waiting)
    try:
        yield
    finally:
        # Before it is closed: whoever opened it meanwhile notices that it is no longer the one at `path`.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether another process holds it, or another holder in this one."""
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False
    try:
        return not _try(descriptor)
    except OSError:  # a file system without locks: nobody holds one
        return False
    finally:
        os.close(descriptor)


def _acquire(path: Path, waiting: Callable[[], None]) -> int:
    told = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        ours = False
        try:
            ours = _try(descriptor) and _is_at(descriptor, path)
        finally:
            if not ours:
                os.close(descriptor)
        if ours:
            return descriptor
        if not told:
            told = True
            waiting()
        time.sleep(POLL_S)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise OSError(error.errno, f"this file system has no locks ({error.strerror})") from error
        return True
