"""Forge Neo: Forge's pages over a memory manager of Comfy's lineage, under the name that Forge's has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from ...patching.change import Change, Function
from ..comfy.webui import Comfy
from ..common import timing
from ..common.webui import Record

MANAGER = "backend.memory_management"


class Neo(Comfy):
    """`backend.memory_management` without the numbers of Forge's."""

    runs_flux = True
    family = "Forge Neo"
    manager_name = MANAGER
    args_name = "backend.args"
    vram_flags = ("gpu_only", "highvram", "normalvram", "lowvram", "novram")
    unavailable: ClassVar[Mapping[str, str]] = {
        "tier": "left to the WebUI: its own memory manager fits every model to the card",
        "streams": "left to the WebUI: --cuda-stream switches copy streams on here",
    }

    @property
    def name(self) -> str:
        return self.family

    def load_events(self, record: Record) -> list[Change]:
        return [Function("modules.sd_models", "forge_loader", partial(timing.time_checkpoint, record))]
