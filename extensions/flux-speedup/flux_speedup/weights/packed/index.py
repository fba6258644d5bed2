"""A packed file's index: for which weight file it counts, and what is where in it.

It lies beside the packed file, has a digest, and is written anew, as a whole, whenever there is a tensor more: what
was cut off is gone on with. A packed file belongs to a content: it is found by size, time of the last write and a
sample of the weight file, and counts for a file whose stat is the one that it was compared under, byte for byte: a
write that puts the time back leaves another ctime. So does another name or mode; then it is compared once more
(packing.py).
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ...storage import whole_file
from ..files.identity import FileIdentity
from .form import VERSION, Form


class Entry(NamedTuple):
    """What is at `source` in the weight file, of `size` bytes, is at `offset` in the packed one (form.py)."""

    source: int
    size: int
    offset: int
    escapes: int
    checksum: int

    @property
    def form(self) -> Form:
        return Form(self.size, self.escapes)

    @property
    def end(self) -> int:
        return self.offset + self.form.length


@dataclass(frozen=True)
class Index:
    """Entries of a weight file's tensors, in its order; `whole`: of all, compared with exactly this file."""

    path: Path
    identity: FileIdentity
    entries: tuple[Entry, ...] = ()
    whole: bool = False

    def write(self, packed: Path) -> None:
        """Beside a packed file. Raises OSError."""
        # Devices get other numbers at each start.
        identity = asdict(self.identity) | {"device": 0, "around": ()}
        body = json.dumps([str(self.path), identity, self.entries, self.whole])
        whole_file.write(index_of(packed), f"{_digest(body)}\n{body}")

    @classmethod
    def read(cls, packed: Path) -> Index | None:
        """That of a packed file; None where there is none, or none that is as it was written. Raises OSError."""
        with suppress(FileNotFoundError, ValueError, TypeError, RecursionError):
            digest, _, body = index_of(packed).read_text(encoding="utf-8").partition("\n")
            if digest == _digest(body):
                path, identity, entries, whole = json.loads(body)
                return cls(Path(path), FileIdentity(**identity), tuple(Entry(*row) for row in entries), whole)
        return None

    @classmethod
    def counting(cls, packed: Path, identity: FileIdentity) -> Index | None:
        """The same, where the packed file is all there and was compared with exactly this weight file."""
        with suppress(OSError):
            found = cls.read(packed)
            if found is not None and found.whole and found.identity == replace(identity, device=0):
                return found if size_of(packed) == found.entries[-1].end else None
        return None


def packed_of(identity: FileIdentity, folder: Path) -> Path:
    """Where the packed file is of weight files with this content, as far as a look at it tells."""
    told = f"{identity.size} {identity.mtime_ns} {identity.sample}"
    return folder / f"{hashlib.sha256(told.encode()).hexdigest()[:20]}.packed"


def index_of(packed: Path) -> Path:
    return packed.with_suffix(".index")


def lock_of(packed: Path) -> Path:
    """Held by whoever makes or deletes it."""
    return packed.with_suffix(".lock")


def size_of(packed: Path) -> int:
    """Bytes; 0 where it is not there."""
    with suppress(OSError):
        return packed.stat().st_size
    return 0


def _digest(body: str) -> str:
    return hashlib.sha256(f"{VERSION}\n{body}".encode()).hexdigest()
