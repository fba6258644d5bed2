"""A background thread that leaves the cores to whoever wants them."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Any

LAST = 19
"""The nice value of what runs when nothing else wants to."""
BELOW = -1
"""THREAD_PRIORITY_BELOW_NORMAL of Windows, which runs what is lower only seconds later where all cores are busy:
too late for a thread that the interpreter's lock goes through."""


def step_back() -> None:
    """Give this thread, and no other, a lower priority: Linux (the lowest) and Windows; elsewhere it keeps its own.

    It cannot be taken back without rights, so it is for threads that end with their work.
    """
    with contextlib.suppress(OSError, AttributeError):
        if sys.platform == "linux":
            # To Linux a thread is a process of its own here.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LAST)
        elif sys.platform == "win32":
            import ctypes

            windows: Any = ctypes
            kernel = windows.WinDLL("kernel32")  # our own: what is told of its functions is for nobody else
            kernel.GetCurrentThread.restype = ctypes.c_void_p  # an int would be cut to 32 of 64 bits
            kernel.SetThreadPriority.argtypes = ctypes.c_void_p, ctypes.c_int
            kernel.SetThreadPriority(kernel.GetCurrentThread(), BELOW)
