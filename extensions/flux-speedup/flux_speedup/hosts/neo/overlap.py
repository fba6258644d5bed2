"""How Forge Neo loads models, where they come before they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

from ..common.overlap import MANAGER

PATCHER, UTILITIES = "backend.patcher.base", "backend.utils"
CAST = (torch.float16, torch.bfloat16, torch.float32)
"""What the host builds of such tensors has the dtype that it likes; all others it keeps."""


class NeoLoads:
    """Models are whole where there is room."""

    def whole(self) -> bool:
        manager: Any = sys.modules[MANAGER]
        states = (manager.VRAMState.NORMAL_VRAM, manager.VRAMState.HIGH_VRAM)
        return not manager.DISABLE_SMART_MEMORY and manager.vram_state in states

    def is_loaded(self, model: torch.nn.Module) -> bool:
        return bool(getattr(model, "model_loaded_weight_memory", 0))

    def is_moved(self, patcher: Any) -> bool:
        # Those of Nunchaku's models move them by themselves.
        load: Any = type(patcher).load
        return load is sys.modules[PATCHER].ModelPatcher.load  # type: ignore[attr-defined]

    def stays(self, part: Mapping[str, Any], guess: Any, *, text: bool) -> bool:
        """GGUF's do not: what is computed with is made of them when they are loaded."""
        if not part or not all(map(torch.is_tensor, part.values())) or getattr(guess, "nunchaku", False):
            return False
        utilities, manager = sys.modules[UTILITIES], sys.modules[MANAGER]
        dtype: Any = utilities.weight_dtype(part)  # type: ignore[attr-defined]
        if dtype not in CAST:
            return isinstance(dtype, torch.dtype)
        built: torch.dtype = manager.text_encoder_dtype() if text else _of_transformer(part, guess, dtype)  # type: ignore[attr-defined]
        return built == dtype


def _of_transformer(part: Mapping[str, Any], guess: Any, dtype: torch.dtype) -> torch.dtype:
    """As the host's loader asks its manager."""
    manager: Any = sys.modules[MANAGER]
    found: torch.dtype = manager.unet_dtype(
        device=manager.get_torch_device(),
        model_params=sum(tensor.nelement() for tensor in part.values()),
        supported_dtypes=guess.supported_inference_dtypes,
        weight_dtype=dtype,
    )
    return found
