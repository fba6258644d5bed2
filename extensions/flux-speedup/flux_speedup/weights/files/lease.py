"""A read lease on an open file: whoever is about to write to it waits until we have put its bytes in safety.

Linux only, and only for files that belong to us (or with CAP_LEASE) on a file system that has leases; else there
is none, and a write is found out afterwards. The kernel waits 45 s for us at most (lease-break-time).
"""

from __future__ import annotations

import contextlib
import logging
import signal
import struct
import sys
import threading
from collections.abc import Callable

POLL_S = 0.5
IDLE_S = 30.0
_SET_OWNER_EX = 15  # F_SETOWN_EX of linux/fcntl.h; its argument: F_OWNER_TID (0), a thread's number
_log = logging.getLogger("flux_speedup")


def place(descriptor: int, thread: int) -> bool:
    """Whether the open file has a lease now, whose breaking wakes a `Watch` on that thread."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        # Sent to that thread alone, which waits for it. Anywhere else SIGURG would be ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, int(signal.SIGURG))
        fcntl.fcntl(descriptor, _SET_OWNER_EX, struct.pack("ii", 0, thread))
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        return False
    return True


def holds(descriptor: int) -> bool:
    """Whether nobody has asked to write since the lease was placed: the bytes are what they were, for certain."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK
    except OSError:
        return False


def release(descriptor: int) -> None:
    """Whoever waits may write."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


class Watch:
    """One thread that calls `look` when somebody waits for a lease, and now and then anyway. Linux only."""

    def __init__(self, look: Callable[[], float]) -> None:
        """`look` answers after how many seconds it wants to be called at the latest."""
        self._look = look
        self._lock = threading.Lock()
        self._started = threading.Event()
        self._thread: int | None = None
        self._ident: int | None = None

    def thread(self) -> int | None:
        """The thread's number, running by now; None where this system has no leases."""
        if sys.platform != "linux":
            return None
        with self._lock:
            if self._thread is None:
                threading.Thread(target=self._work, name="flux-speedup-files", daemon=True).start()
                self._started.wait()
            return self._thread

    def wake(self) -> None:
        """Look now."""
        if self._ident is not None:
            signal.pthread_kill(self._ident, signal.SIGURG)

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGURG})
        self._thread, self._ident = threading.get_native_id(), threading.get_ident()
        self._started.set()
        while True:
            try:
                seconds = self._look()
            except Exception as error:  # the one thread that writers wait for must not end
                _log.warning("looking after weight files: %s: %s", type(error).__name__, error)
                seconds = POLL_S
            signal.sigtimedwait({signal.SIGURG}, seconds)
