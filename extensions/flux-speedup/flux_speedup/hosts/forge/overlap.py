"""How Forge loads models, where they come before they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

from ..common.overlap import MANAGER


class ForgeLoads:
    """Models are whole where there is room; what the host builds in another dtype is seen once it has come."""

    def whole(self) -> bool:
        manager: Any = sys.modules[MANAGER]
        states = (manager.VRAMState.NORMAL_VRAM, manager.VRAMState.HIGH_VRAM)
        return not manager.ALWAYS_VRAM_OFFLOAD and manager.vram_state in states

    def is_loaded(self, model: torch.nn.Module) -> bool:
        manager: Any = sys.modules[MANAGER]
        return any(loaded.model.model is model for loaded in manager.current_loaded_models)

    def is_moved(self, patcher: Any) -> bool:
        return True

    def stays(self, part: Mapping[str, Any], guess: Any, *, text: bool) -> bool:
        return True
