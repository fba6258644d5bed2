"""A small JSON file, whoever wrote it: read within bounds."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 16 << 20


def read(path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """The object in it.

    Raises OSError, ValueError: whatever else is there. Only a file is opened: a pipe may be waited for, a device
    read, for ever.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no file")
    if found.st_size > most:
        raise ValueError(f"it has more than {most} bytes")
    try:
        held = json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(held, dict):
        raise ValueError(f"it holds {type(held).__name__}, not an object of keys and values")  # noqa: TRY004
    return held
