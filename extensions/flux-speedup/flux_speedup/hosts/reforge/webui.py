"""reForge: A1111's pages over `ldm_patched`, a memory manager of Comfy's lineage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..comfy.webui import Comfy

MANAGER = "ldm_patched.modules.model_management"


class ReForge(Comfy):
    """`ldm_patched.modules.model_management`."""

    family = "reForge"
    manager_name = MANAGER
    args_name = "ldm_patched.modules.args_parser"
    vram_flags = (
        "always_gpu",
        "always_high_vram",
        "always_normal_vram",
        "always_low_vram",
        "always_no_vram",
    )
    unavailable: ClassVar[Mapping[str, str]] = {
        "tier": "left to the WebUI: its own memory manager fits every model to the card",
        "streams": "left to the WebUI: --cuda-stream switches copy streams on here",
        "checkpoints": "left to the WebUI: it keeps as many checkpoints loaded as its own settings say",
        "needless_unloads": "there is nothing to do: no model is unloaded between images here",
    }

    @property
    def name(self) -> str:
        return self.family
