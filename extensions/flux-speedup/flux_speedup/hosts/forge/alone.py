"""What would be on the card if the host had loaded and unloaded models alone: its own rules, replayed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Load:
    """One call of `load_models_gpu`, or of `free_memory` by itself, with what that is to keep.

    Bytes: `need` are to be free after it, below `least` the host swaps. A patcher is whatever has a `model`.
    """

    patchers: tuple[Any, ...]
    need: float
    least: int = 0


@dataclass
class Alone:
    """Its list of loaded models, those used last first: (patcher, bytes). `space`: bytes for models and all else.

    size: bytes of a model. budget: how many of them the host leaves on the card, of free ones and those to be kept.
    """

    space: int
    size: Callable[[Any], int]
    budget: Callable[[int, int], int]
    loaded: list[tuple[Any, int]] = field(default_factory=list)
    _lying: int = 0

    def free(self) -> int:
        return self.space - self._lying - sum(size for _, size in self.loaded)

    def replay(self, loads: Iterable[Load]) -> int:
        """Bytes that are free after these."""
        for each in loads:
            self._load(each)
        return self.free()

    def _load(self, load: Load) -> None:
        known = [patcher for patcher, _ in self.loaded if any(patcher is one for one in load.patchers)]
        new = [one for one in load.patchers if not any(one is patcher for patcher in known)]
        self.loaded.sort(key=lambda each: not any(each[0] is patcher for patcher in known))
        if not new:
            self._make_room(load.need, known)
            return
        # Clones of a model leave the list, and their weights where they are.
        there = {id(one.model): self._forget(one.model) for one in new}
        self._lying = sum(there.values())
        comes = sum(self.size(one.model) - 0.75 * there[id(one.model)] for one in new)
        self._make_room(comes * 1.3 + load.need, known)
        for one in new:
            lies, size, free = there.pop(id(one.model), 0), self.size(one.model), self.free()
            fits = free - (size - lies) >= load.least
            stays = size if fits else lies or min(size, self.budget(free, load.least))
            self._lying -= lies
            self.loaded.insert(0, (one, stays))

    def _forget(self, model: Any) -> int:
        gone = [each for each in self.loaded if each[0].model is model]
        self.loaded = [each for each in self.loaded if each[0].model is not model]
        return sum(size for _, size in gone)

    def _make_room(self, wanted: float, kept: Sequence[Any]) -> None:
        for each in reversed(list(self.loaded)):
            if self.free() > wanted:
                return
            if not any(each[0] is patcher for patcher in kept):
                self.loaded.remove(each)
