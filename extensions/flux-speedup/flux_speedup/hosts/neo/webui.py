"""Forge Neo: Forge's pages over a memory manager of Comfy's lineage, under the name that Forge's has."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

from ...patching.change import Change, Function
from ..comfy.names import Names
from ..comfy.webui import Comfy
from ..common import timing
from ..common.webui import Record
from ..forge.ahead import Ahead

MANAGER = "backend.memory_management"
# Those that read their weights as PyTorch does.
LAYERS = ("Linear", "Conv1d", "Conv2d", "Conv3d", "GroupNorm", "LayerNorm", "Embedding")


class Neo(Comfy, Ahead):
    """`backend.memory_management` without the numbers of Forge's."""

    runs_flux = True
    taken_over = Names(
        manager=MANAGER,
        patcher="backend.patcher.base",
        build=("modules.sd_models", "forge_loader"),
        reading="backend.loader",
        engine="backend.diffusion_engine.base",
        operations="backend.operations",
        layers=tuple(f"ForgeOperations.{layer}" for layer in LAYERS),
        initial_device="unet_initial_load_device",
    )
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

    def computing_device(self) -> Any:
        return self._manager.get_torch_device()

    def quiet(self) -> AbstractContextManager[None]:
        return self._gate.loading()

    def load_events(self, record: Record) -> list[Change]:
        return [Function("modules.sd_models", "forge_loader", partial(timing.time_checkpoint, record))]
