"""The WebUIs: the only room that imports `modules.*` and `backend.*`; one folder a family."""

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
    return _of_comfys_lineage() or _without_a_manager()


def _of_comfys_lineage() -> WebUI | None:
    from .comfy.webui import has_the_lineage

    manager = sys.modules.get("backend.memory_management")
    if manager is not None and has_the_lineage(manager):
        from .neo.webui import Neo

        return Neo(manager)
    manager = sys.modules.get("ldm_patched.modules.model_management")
    if manager is not None and has_the_lineage(manager):
        from .reforge.webui import ReForge

        return ReForge(manager)
    return None


def _without_a_manager() -> WebUI:
    """Whoever started by the family's launcher loads models as A1111 does, or as nobody knows."""
    if "modules.launch_utils" in sys.modules:
        from .a1111.webui import A1111

        return A1111()
    return WebUI()
