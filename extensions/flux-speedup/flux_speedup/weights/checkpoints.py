"""Built models that are kept: by everything their build depended on, the longest unused given up first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from .files.identity import FileIdentity, identity

Model = TypeVar("Model")


@dataclass(frozen=True)
class Key:
    """What a build depends on: its files (None: there is no such file) and settings, by name."""

    files: tuple[tuple[str, FileIdentity | None], ...]
    settings: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, files: Iterable[Path | str], settings: Iterable[tuple[str, object]]) -> Key:
        """The key as the files are now."""
        identified = tuple((str(path), identity(path)) for path in files)
        return cls(identified, tuple((name, str(value)) for name, value in settings))

    def is_current(self) -> bool:
        """Whether every file is still the one it was."""
        return all(identity(path) == known for path, known in self.files)


@dataclass(frozen=True)
class Limits:
    """How many models are kept, and how many bytes of RAM they may hold that no file stands behind."""

    count: int
    ram: int


@dataclass(frozen=True)
class Kept(Generic[Model]):
    """A model that is kept, and the bytes of RAM it holds that no file stands behind."""

    key: Key
    model: Model
    ram: int


class Checkpoints(Generic[Model]):
    """Kept models, from the longest unused to the last used one. Safe from any thread."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: OrderedDict[Key, Kept[Model]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: Key, model: Model, ram: int) -> list[Kept[Model]]:
        """Keep a model as the last used one. Returns what had to go for it: itself where it does not fit."""
        new = Kept(key, model, ram)
        if ram > self._limits.ram or self._limits.count < 1:
            return [new]
        with self._lock:
            gone = [old] if (old := self._kept.pop(key, None)) is not None else []
            self._kept[key] = new
            while len(self._kept) > self._limits.count or self._ram() > self._limits.ram:
                gone.append(self._kept.popitem(last=False)[1])
        return gone

    def take(self, key: Key) -> Model | None:
        """The model of exactly this key, which is no longer kept."""
        with self._lock:
            found = self._kept.pop(key, None)
        return None if found is None else found.model

    def drop(self, model: Model) -> bool:
        """Keep this model no longer. Returns whether it was kept."""
        return bool(self._drop([kept for kept in self.entries() if kept.model is model]))

    def drop_changed(self) -> list[Kept[Model]]:
        """Keep no model that was built from a file which is another one now. Returns those."""
        return self._drop([kept for kept in self.entries() if not kept.key.is_current()])

    def clear(self) -> list[Kept[Model]]:
        """Keep nothing. Returns what was kept."""
        return self._drop(self.entries())

    def entries(self) -> list[Kept[Model]]:
        """What is kept, the longest unused first."""
        with self._lock:
            return [*self._kept.values()]

    @property
    def ram(self) -> int:
        """Bytes of RAM that all kept models hold and no file stands behind."""
        with self._lock:
            return self._ram()

    def _ram(self) -> int:
        return sum(kept.ram for kept in self._kept.values())

    def _drop(self, chosen: Iterable[Kept[Model]]) -> list[Kept[Model]]:
        gone: list[Kept[Model]] = []
        with self._lock:
            for kept in chosen:
                if self._kept.get(kept.key) is kept:
                    gone.append(self._kept.pop(kept.key))
        return gone
