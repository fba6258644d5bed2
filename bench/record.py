"""The one writer: what a run found, printed as it comes and kept in one JSON file that is whole at every moment."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import EXTENSION

Row = dict[str, Any]
NOT_YET = "not yet"


def say(text: str) -> None:
    """A line, at once: whoever watches a long run sees where it is."""
    print(text, flush=True)


class Record:
    """A run's rows beside its name, date, machine, versions and settings; written anew after every row."""

    def __init__(self, bench: str, path: Path | None) -> None:
        self._path = path
        self.content: dict[str, Any] = {
            "bench": bench,
            "date": datetime.date.today().isoformat(),
            "product": product(),
            "machine": machine(),
            "rows": [],
            "ended": NOT_YET,
        }
        self._write()

    @property
    def rows(self) -> list[Row]:
        rows: list[Row] = self.content["rows"]
        return rows

    def row(self, **row: Any) -> None:
        self.rows.append(row)
        say("  ".join(f"{key} {_short(value)}" for key, value in row.items() if value not in (None, [], {})))
        self._write()

    def about(self, **more: Any) -> None:
        """What was measured and how: versions, settings, what all rows together say."""
        self.content |= more
        self._write()

    def end(self, how: str = "complete") -> None:
        """What is said first is kept."""
        if self.content["ended"] == NOT_YET:
            self.about(ended=how)

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(f".{self._path.name}.part")
        beside.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        beside.replace(self._path)


def machine() -> dict[str, Any]:
    """What is told of the machine; `busy` is how many programs wanted a core in the minute before."""
    busy = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "ram_gb": _ram(),
        "busy": busy,
        "python": platform.python_version(),
    }


def product() -> str:
    """Names what is measured by its content: a digest of the extension's source, the same in every copy of it."""
    found = hashlib.sha256()
    for path in sorted(EXTENSION.rglob("*.py")):
        found.update(path.relative_to(EXTENSION).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


def _ram() -> float | None:
    try:
        import psutil
    except ImportError:
        return None
    return round(psutil.virtual_memory().total / 1e9, 1)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_short(each)}" for key, each in value.items())
    return f"{len(value)} lines" if isinstance(value, list) else str(value)
