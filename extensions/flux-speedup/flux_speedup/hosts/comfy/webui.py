"""A host whose memory manager is of Comfy's lineage: `LoadedModel`, `ModelPatcher.partially_load`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ...memory import Card
from ...patching.change import Change
from ..common.card import managed_card
from ..common.managed import ManagedInside
from ..common.webui import Record, WebUI
from .timing import Witness, move_changes


def has_the_lineage(manager: ModuleType | None) -> bool:
    """Whether a memory manager moves models as Comfy does, whole or in part, by its `LoadedModel`."""
    loaded = getattr(manager, "LoadedModel", None)
    return hasattr(loaded, "model_use_more_vram") and hasattr(manager, "vram_state")


class Comfy(WebUI):
    """What Forge Neo and reForge share. `manager_name`, `args_name`: their modules; `vram_flags` as parsed."""

    manager_name: str
    args_name: str
    vram_flags: Sequence[str] = ()

    def __init__(self, manager: ModuleType) -> None:
        super().__init__()
        self._manager: Any = manager

    def simulated(self) -> bool:
        return bool(getattr(self._manager, "simulated", False))

    def card(self) -> Card:
        return managed_card(self._manager)

    def vram_flag(self) -> str | None:
        arguments = getattr(sys.modules.get(self.args_name), "args", None)
        found = next((name for name in self.vram_flags if getattr(arguments, name, False)), None)
        return None if found is None else "--" + found.replace("_", "-")

    def inside(self) -> ManagedInside:
        return ManagedInside(self._manager)

    def timing_changes(self, record: Record) -> list[Change]:
        return [*self.load_events(record), *move_changes(self.manager_name, record, Witness())]

    def load_events(self, record: Record) -> list[Change]:
        """Changes that report the checkpoints that are built."""
        return super().timing_changes(record)
