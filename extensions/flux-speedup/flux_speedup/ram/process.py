"""What is this process's alone: its own RAM, and how many of its threads can run at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .groups import cpu_quota
from .system import PROC, numbers, psutil


def anonymous(status: Path = PROC / "self" / "status") -> int | None:
    """Bytes of this process that no file stands behind; None where the system does not say."""
    if sys.platform == "win32":
        known = psutil()
        return int(known.Process().memory_info().private) if known is not None else None
    kilobytes = numbers(status).get("RssAnon")
    return None if kilobytes is None else kilobytes * 1024


def cores(proc: Path = PROC) -> int:
    """Processors this process may use: its affinity and the quota of its control groups; 1 at least.

    A quota is rounded down: with more threads than that all of them stand still for the rest of each period.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = cpu_quota(proc)
    return max(1, count if quota is None else min(count, int(quota)))
