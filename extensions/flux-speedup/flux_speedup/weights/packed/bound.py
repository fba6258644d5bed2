"""To which weight file a packed file belongs: by its content, whatever its name and place.

A packed file is found by size, time of the last write and a sample. It counts for a file whose stat is the one that
it was compared under, byte for byte: a write that puts the time back leaves another ctime. So does another name or
mode; then it is compared once more (packing.py), and nothing is made anew.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ..files.identity import FileIdentity

_MOST = 1 << 16
_COMPARED = [field.name for field in fields(FileIdentity) if field.compare]


class Places:
    """The files of one packed file, in one folder. `whole` counts once `bound` says for which file it does."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        kinds = ("packed", "json", "part", "journal", "lock")
        self.whole, self.bound, self.part, self.journal, self.lock = (folder / f"{name}.{k}" for k in kinds)

    @classmethod
    def of(cls, identity: FileIdentity, folder: Path) -> Places:
        """For a weight file with this content, as far as a look at it tells."""
        told = f"{identity.size} {identity.mtime_ns} {identity.sample}"
        return cls(folder, hashlib.sha256(told.encode()).hexdigest()[:20])

    def fit(self, identity: FileIdentity) -> bool:
        """Whether they are those of such a weight file."""
        return Places.of(identity, self.folder).name == self.name

    def count_for(self, identity: FileIdentity) -> bool:
        """Whether the packed file was compared with exactly this one."""
        bound = Bound.read(self.bound)
        return bound is not None and bound.identity == replace(identity, device=0) and self.whole.exists()

    def drop(self, *, whole: bool = True) -> None:
        """All of it, or what is not whole. What somebody has open on Windows stays until the next time."""
        for path in (*((self.bound, self.whole) if whole else ()), self.journal, self.part):
            with suppress(OSError):
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Bound:
    """The weight file that a packed file was compared with. Devices get other numbers at the next start."""

    path: Path
    identity: FileIdentity

    def line(self) -> str:
        """As JSON."""
        told = {name: getattr(self.identity, name) for name in _COMPARED}
        return json.dumps({"path": str(self.path), **told, "device": 0})

    @classmethod
    def read(cls, file: Path) -> Bound | None:
        """What was written, or what a journal begins with; None where it is nothing of the kind."""
        try:
            with file.open("rb") as lines:
                told = json.loads(lines.readline(_MOST))
            return cls(Path(told.pop("path")), FileIdentity(**told))
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            return None
