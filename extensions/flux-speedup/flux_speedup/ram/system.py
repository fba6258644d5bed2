"""What the system says of itself: small files of numbers and words, and psutil where there are none."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

PROC = Path("/proc")


def lines(file: Path) -> list[str]:
    """Its lines; none where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def number(file: Path) -> int | None:
    """The one number in it; None where there is none ("max", for one)."""
    found = lines(file)
    try:
        return int(found[0]) if found else None
    except ValueError:
        return None


def numbers(file: Path) -> dict[str, int]:
    """A file of lines such as "name 5" or "name: 5 kB": the number by its name, in its own unit."""
    found: dict[str, int] = {}
    for line in lines(file):
        words = line.split()
        if len(words) > 1 and words[1].isdigit():
            found.setdefault(words[0].rstrip(":"), int(words[1]))
    return found


def psutil() -> Any:
    """It comes with the WebUI, and answers where there is no /proc; None where it is missing."""
    try:
        return importlib.import_module("psutil")
    except ImportError:
        return None
