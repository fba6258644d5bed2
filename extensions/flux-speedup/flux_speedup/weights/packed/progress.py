"""What tab and API are told of packed files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileProgress:
    """A weight file of `bytes`, of which `done` are packed and compared with it.

    state: "packed", "packing", "comparing" (its packed file is there, and was compared under another name or mode),
    "waiting", "stopped", "not packed". why: what it waits for, or why it is not packed.
    """

    name: str
    bytes: int
    done: int
    state: str
    why: str = ""


@dataclass(frozen=True)
class PackedNow:
    """Packed weights of this process. says: what they bring or would bring here, or "".

    on: they are read and made; stopped: somebody stopped making them. taken, limit: bytes of all packed files, and
    what they may take.
    """

    says: str = ""
    on: bool = False
    stopped: bool = False
    taken: int = 0
    limit: int = 0
    files: tuple[FileProgress, ...] = ()
