"""Python's lock: how long a thread that computes keeps it while others want it."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

OFTEN_S = 1e-4
_lock = threading.Lock()
_inside = 0
_before = 0.0


@contextlib.contextmanager
def handed_over_often() -> Iterator[None]:
    """In here whoever has the lock keeps it for a tenth of a millisecond, not for 5, while others want it.

    For a thread that keeps a device at work beside one that computes in Python: every operation on a tensor hands
    the lock over, so a hundred of them would wait half a second.
    """
    global _inside, _before
    with _lock:
        _inside += 1
        if _inside == 1:
            _before = sys.getswitchinterval()
            if _before > OFTEN_S:
                sys.setswitchinterval(OFTEN_S)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and sys.getswitchinterval() < _before:
                sys.setswitchinterval(_before)
