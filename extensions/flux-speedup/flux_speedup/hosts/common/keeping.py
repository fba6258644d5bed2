"""What a host has on the device and what is kept beside it, and how it is let go."""

from __future__ import annotations

import gc
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import ram
from ...stats.report import size
from .forms import Inventory
from .inside import Model, Refused
from .managed import ManagedInside

if TYPE_CHECKING:
    from ...weights.checkpoints import Key
    from .built import Built
    from .checkpoints import Keeper


class KeepingInside(ManagedInside):
    """A host and what our rooms know of it; `keeper` answers None where no model is kept."""

    def __init__(self, manager: Any, keeper: Callable[[], Keeper | None], inventory: Inventory) -> None:
        super().__init__(manager, inventory)
        self._keeper = keeper

    def weights_in_ram(self) -> tuple[int | None, int | None]:
        if "torch" not in sys.modules:
            return None, None
        from ...weights.files.mapping import MAPPINGS, Standing
        from ...weights.files.pagecache import resident_fraction

        # Every build has mappings of its own; of one file they are the same pages.
        files = {each.identity: each.path for each in MAPPINGS.live() if each.standing is Standing.FILE}
        shares = [(resident_fraction(path), identity.size) for identity, path in files.items()]
        known = [int(share * length) for share, length in shares if share is not None]
        return (sum(known) if len(known) == len(shares) else None), ram.HELD.bytes

    def models(self) -> list[Model]:
        keeper = self._keeper()
        current = keeper.current if keeper is not None else None
        if current is None or current.key is None:
            first = super().models()
        else:
            here = {id(module) for module in current.modules}
            held = sum(self._held(each) for each in self._loaded() if id(each.model.model) in here)
            first = [self._model(current, current.key, "in use", held)]
        kept = keeper.kept.entries()[::-1] if keeper is not None else []
        return [*first, *(self._model(each.model, each.key, "kept", 0) for each in kept)]

    def in_memory(self) -> dict[Path, str]:
        keeper = self._keeper()
        kept = keeper.kept.entries() if keeper is not None else []
        return {**{Path(each.key.files[0][0]): "kept" for each in kept}, **super().in_memory()}

    def _model(self, built: Built, key: Key, where: str, held: int) -> Model:
        forms = self._forms(built.modules)
        return Model(_key(key), _name(key), where, built.file_bytes, held, built.ram, forms)

    def drop(self, key: str) -> str:
        keeper = self._keeper()
        for kept in keeper.kept.entries() if keeper is not None else ():
            if _key(kept.key) == key and keeper is not None:
                with self.nobody_else():
                    keeper.kept.drop(kept.model)
                name, ram = _name(kept.key), kept.ram
                del kept
                gc.collect()
                return f"{name} is forgotten, {size(ram)} of RAM are free"
        if any(each.key == key for each in self.models()):
            raise Refused("this model is in use; free VRAM takes it off the device")
        raise Refused("there is no such model; it may be gone already")


def _key(key: Key) -> str:
    """A short name for a key, the same for as long as the process runs."""
    return hashlib.sha256(repr(key).encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _name(key: Key) -> str:
    return Path(key.files[0][0]).name
