"""reForge: A1111's pages over `ldm_patched`, a memory manager of Comfy's lineage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ..a1111.chosen import Chosen
from ..comfy.names import Names
from ..comfy.webui import Comfy

if TYPE_CHECKING:
    from ...weights.residency.placement import Placement
    from ..comfy.weights import Attachment

MANAGER = "ldm_patched.modules.model_management"
OPERATIONS = "ldm_patched.modules.ops"
# Those that read their weights as PyTorch does.
LAYERS = ("Linear", "Conv1d", "Conv2d", "Conv3d", "GroupNorm", "LayerNorm", "Embedding")


class ReForge(Comfy, Chosen):
    """`ldm_patched.modules.model_management`."""

    taken_over = Names(
        manager=MANAGER,
        patcher="ldm_patched.modules.model_patcher",
        build=("modules.sd_models", "load_model"),
        reading="ldm_patched.modules.utils",
        operations=OPERATIONS,
        layers=tuple(f"disable_weight_init.{layer}" for layer in LAYERS),
        initial_device="unet_inital_load_device",
    )
    family = "reForge"
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

    def attach(self, names: Names, placement: Placement) -> Attachment:
        from .weights import ReForgeAttachment

        return ReForgeAttachment(names, placement)
