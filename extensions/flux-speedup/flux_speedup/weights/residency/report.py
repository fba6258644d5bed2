"""What a load and an unload did, for the statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..files.identity import FileIdentity
from .backing import Backing


@dataclass(frozen=True)
class LoadReport:
    """`bytes` arrived on the device in `seconds`; `by_backing` splits them.

    `skipped`: names asked for that are not on the device now, which is the host's business. `early`: bytes that
    were on their way before they were asked for. `files`: what was read, and `source` where that was before:
    "page cache" or "disk", or "file" where the system does not say.
    """

    bytes: int
    seconds: float
    by_backing: Mapping[Backing, int]
    skipped: tuple[str, ...]
    early: int = 0
    files: Mapping[FileIdentity, Path] = field(default_factory=dict)
    source: str = "file"


@dataclass(frozen=True)
class UnloadReport:
    """`bytes` of device memory were let go in `seconds`.

    `copied_back`: names that somebody else had changed on the device; their values are in RAM now.
    """

    bytes: int
    seconds: float
    copied_back: tuple[str, ...]
