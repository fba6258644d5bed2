"""A small file of ours, written whole or not at all."""

from __future__ import annotations

import glob
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ABANDONED_S = 3600.0
"""A half file of that age belongs to no writer that lives."""


def write(path: Path, text: str) -> None:
    """Put `text` in the place of whatever is there, its folder made if need be. Raises OSError, ValueError.

    Readers see the old file or the new one; two writers at once do not mix. What writers that were killed left
    behind goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=path.name, suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
        os.replace(temporary, path)  # noqa: PTH105 - the one call that is atomic everywhere
    except BaseException:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        raise
    _sweep(path)


def _sweep(path: Path) -> None:
    before = time.time() - ABANDONED_S
    with suppress(OSError):
        for left in path.parent.glob(f"{glob.escape(path.name)}*.part"):
            if left.stat().st_mtime < before:
                left.unlink()
