"""What loaded models depend on in Forge, for needless unloads."""

from __future__ import annotations

from typing import Any

from ...patching.change import Change
from ..common.unloads import InForce, Unloads

SETTERS = ("refresh_memory_management_settings", "refresh_model_loading_parameters")


def changes(manager: Any) -> list[Change]:
    """The five functions, to be wrapped together."""

    def in_force(loading: str) -> InForce:
        return InForce(loading, int(manager.current_inference_memory), bool(manager.PIN_SHARED_MEMORY))

    return Unloads(SETTERS, manager, in_force, by_model=False).changes()
