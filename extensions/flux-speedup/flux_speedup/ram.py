"""RAM of this process and of the machine, or of the container that it runs in."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_GROUP = Path("/sys/fs/cgroup")


def anonymous(status: Path = _STATUS) -> int | None:
    """Bytes of this process that no file stands behind; None where the system does not say."""
    if sys.platform == "win32":
        psutil = _psutil()
        return int(psutil.Process().memory_info().private) if psutil is not None else None
    try:
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("RssAnon:")]
    return int(found[0][1]) * 1024 if found and len(found[0]) > 1 and found[0][1].isdigit() else None


def available_and_total(group: Path = _GROUP) -> tuple[int | None, int | None]:
    """Bytes that could be used without swapping, and all there are: the smaller of machine and container."""
    psutil = _psutil()
    if psutil is None:
        return None, None
    memory = psutil.virtual_memory()
    available, total = int(memory.available), int(memory.total)
    limit, used = cgroup_limit(group / "memory.max"), _number(group / "memory.current")
    if limit is not None and used is not None and limit < total:
        # Clean pages of files count as used there, and go when somebody needs room.
        free = max(0, limit - used + _of_files(group / "memory.stat"))
        return min(available, free), limit
    return available, total


def cgroup_limit(path: Path = _GROUP / "memory.max") -> int | None:
    """Bytes of RAM this process's control group may use; None where there is no limit."""
    return _number(path)


def _of_files(stat: Path) -> int:
    try:
        lines = [line.split() for line in stat.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):
        return 0
    return sum(int(line[1]) for line in lines if line[0] in ("active_file", "inactive_file"))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _psutil() -> Any:
    """It comes with the WebUI; nothing here needs it."""
    try:
        return importlib.import_module("psutil")
    except ImportError:
        return None
