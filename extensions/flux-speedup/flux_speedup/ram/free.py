"""RAM that can still be had: of the machine, and of every control group that this process is in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import system
from .groups import memory_groups

_KB = 1024


@dataclass(frozen=True)
class Free:
    """Bytes: what could be used without swapping, clean pages of files included, and all there are."""

    available: int
    total: int


def read(held: int = 0, proc: Path = system.PROC) -> Free | None:
    """The smallest answer of machine and groups; None where the system does not say.

    `held`: bytes of file pages that cannot be evicted. The system takes them for page cache, which could.
    """
    whole = _of_machine(proc)
    if whole is None:
        return None
    groups = memory_groups(proc)
    available = min([max(0, whole.available - held), *(group.free(held) for group in groups)])
    total = min([whole.total, *(group.limit for group in groups)])
    return Free(min(available, total), total)


def _of_machine(proc: Path) -> Free | None:
    known = system.numbers(proc / "meminfo")
    if "MemAvailable" in known and "MemTotal" in known:
        return Free(known["MemAvailable"] * _KB, known["MemTotal"] * _KB)
    psutil = system.psutil()
    if psutil is None:
        return None
    memory = psutil.virtual_memory()
    return Free(int(memory.available), int(memory.total))
