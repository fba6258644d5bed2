"""A1111: one model as a whole, loaded, moved and kept by `modules.sd_models`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import ClassVar

from ..common.loads import MODELS
from ..common.webui import WebUI
from .inside import A1111Inside


class A1111(WebUI):
    """A WebUI of this family without any memory manager. Every name is looked for before it is used."""

    family = "A1111"
    unavailable: ClassVar[Mapping[str, str]] = {
        "tier": "not available: this WebUI has no memory numbers that could be set",
        "checkpoints": "left to the WebUI: it keeps as many checkpoints loaded as its own settings say",
        "needless_unloads": "there is nothing to do: no model is unloaded between images here",
    }

    @property
    def name(self) -> str:
        # Its forks took these out or left them without effect; both are imported with the first model only.
        models = sys.modules.get(MODELS)
        if hasattr(models, "send_model_to_trash") and hasattr(models, "lowvram"):
            return self.family
        return super().name

    def inside(self) -> A1111Inside:
        return A1111Inside()
