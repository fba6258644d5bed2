"""How many threads of this process can run at once."""

from __future__ import annotations

import os
from pathlib import Path

from .groups import cpu_quota
from .system import PROC


def cores(proc: Path = PROC) -> int:
    """Processors this process may use: its affinity and the quota of its control groups; 1 at least.

    A quota is rounded down: with more threads than that all of them stand still for the rest of each period.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = cpu_quota(proc)
    return max(1, count if quota is None else min(count, int(quota)))
