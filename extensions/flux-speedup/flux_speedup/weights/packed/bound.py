"""To which weight file a packed file belongs: by the file's place, and by its content."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...storage import whole_file
from ..files.identity import FileIdentity

_MOST = 1 << 16
_COMPARED = [field.name for field in fields(FileIdentity) if field.compare]


@dataclass(frozen=True)
class Places:
    """The files of one packed file, in one folder. `whole` counts once `bound` says for which file it does."""

    folder: Path
    name: str

    @classmethod
    def of(cls, weights: Path, folder: Path) -> Places:
        """For a weight file; links are followed, as a file has one packed file whatever its names."""
        real = os.path.realpath(weights)
        return cls(folder, f"{Path(real).stem[:80]}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:12]}")

    def _at(self, suffix: str) -> Path:
        return self.folder / f"{self.name}.{suffix}"

    @property
    def whole(self) -> Path:
        return self._at("packed")

    @property
    def bound(self) -> Path:
        return self._at("json")

    @property
    def part(self) -> Path:
        return self._at("part")

    @property
    def journal(self) -> Path:
        return self._at("journal")

    @property
    def lock(self) -> Path:
        return self._at("lock")

    def drop(self) -> None:
        """All of it, what binds it first. What somebody has open on Windows stays until the next time."""
        for path in (self.bound, self.whole):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        self.drop_part()

    def drop_part(self) -> None:
        """What is not whole."""
        for path in (self.journal, self.part):
            with suppress(OSError):
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Bound:
    """The weight file that a packed file was compared with, byte for byte."""

    path: Path
    identity: FileIdentity

    def write(self, file: Path) -> None:
        """Raises OSError."""
        whole_file.write(file, self.line())

    def line(self) -> str:
        """As JSON."""
        told = {name: getattr(self.identity, name) for name in _COMPARED}
        return json.dumps({"path": str(self.path), "identity": told})

    @classmethod
    def read(cls, file: Path) -> Bound | None:
        """What was written, or what a journal begins with; None where it is nothing of the kind."""
        try:
            with file.open("rb") as lines:
                return cls.of(json.loads(lines.readline(_MOST)))
        except (OSError, ValueError, RecursionError):
            return None

    @classmethod
    def of(cls, found: Any) -> Bound | None:
        """From what JSON has."""
        told = found.get("identity") if isinstance(found, dict) else None
        if not isinstance(told, dict) or set(told) != set(_COMPARED):
            return None
        return cls(Path(str(found.get("path"))), FileIdentity(**told))
