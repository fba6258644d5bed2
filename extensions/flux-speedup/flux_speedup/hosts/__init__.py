"""The WebUIs: the only room that imports `modules.*` and `backend.*`; one file a family."""

from __future__ import annotations

import sys

from .common.webui import WebUI


def detect() -> WebUI:
    """The host of this process, by what it has in memory and never by its name or version."""
    manager = sys.modules.get("backend.memory_management")
    if (
        manager is not None
        and hasattr(manager, "current_inference_memory")
        and hasattr(manager, "vram_state")
    ):
        from .forge.webui import Forge

        return Forge(manager)
    return WebUI()
