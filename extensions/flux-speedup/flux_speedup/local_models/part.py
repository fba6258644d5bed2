"""What has come of a file so far, beside the place it will have, and what tells which version of it that is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..storage import json_file

CHUNK = 1 << 16
Progress = Callable[[int, "int | None"], None]
"""(bytes there now, bytes in all where known)."""


class TransferFailed(Exception):
    """The file did not come; the message says why. `again`: another attempt may help."""

    def __init__(self, why: str, *, again: bool = False, after: float = 0.0) -> None:
        self.again = again
        self.after = after
        super().__init__(why)


def write(
    answer: Any, part: Path, start: int, total: int | None, expected: int | None, progress: Progress
) -> None:
    """An answer from `start` on into the part file; `total`, `expected`: bytes of the whole, where known."""
    if expected is not None and total is not None and total != expected:
        raise TransferFailed(f"the server offers {total} bytes, not {expected}")
    if start == 0:
        drop(part)
        keep_validator(part, answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
    at, whole = start, total if total is not None else expected
    with part.open("ab") as file:
        while piece := answer.read1(CHUNK):
            at += len(piece)
            if whole is not None and at > whole:
                raise TransferFailed(f"the server sends more than {whole} bytes")
            file.write(piece)
            progress(at, whole)
        file.flush()
        os.fsync(file.fileno())
    if whole is not None and at < whole:
        raise TransferFailed(f"the connection ended after {at} of {whole} bytes", again=True)


def drop(part: Path) -> None:
    """Forget what was fetched so far."""
    for path in (part, _beside(part)):
        with suppress(FileNotFoundError):
            path.unlink()


def size(part: Path) -> int:
    """Bytes; 0 where there is nothing."""
    try:
        return part.stat().st_size
    except OSError:
        return 0


def _beside(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def keep_validator(part: Path, etag: str | None, modified: str | None) -> None:
    """Remember what the server calls the version of which the beginning is about to come."""
    # A weak ETag does not promise the same bytes.
    strong = etag if etag and not etag.startswith("W/") else None
    if strong or modified:
        _beside(part).write_text(json.dumps({"validator": strong or modified}), encoding="utf-8")


def validator(part: Path) -> str | None:
    """What was remembered, None where nothing was."""
    try:
        found = json_file.read(_beside(part)).get("validator")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) and found.isprintable() else None
