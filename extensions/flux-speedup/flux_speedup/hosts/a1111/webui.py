"""A1111: one model as a whole, loaded, moved and kept by `modules.sd_models`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from ...patching.change import Change, Declined
from ...ram import Rule
from ..common.loads import MODELS
from .chosen import Chosen
from .inside import A1111Inside


class A1111(Chosen):
    """A WebUI of this family without any memory manager. Every name is looked for before it is used."""

    family = "A1111"
    unavailable: ClassVar[Mapping[str, str]] = {
        "tier": "not available: this WebUI has no memory numbers that could be set",
        "checkpoints": "left to the WebUI: it keeps as many checkpoints loaded as its own settings say",
        "needless_unloads": "there is nothing to do: no model is unloaded between images here",
    }

    weights_item = (
        "Checkpoints are streamed to the card",
        "and the next one is written over the model where it is",
    )

    @property
    def name(self) -> str:
        # Its forks took these out or left them without effect; both are imported with the first model only.
        models = sys.modules.get(MODELS)
        if hasattr(models, "send_model_to_trash") and hasattr(models, "lowvram"):
            return self.family
        return super().name

    def computing_device(self) -> Any:
        return getattr(sys.modules.get("modules.devices"), "device", None)

    def weight_changes(self, direct: Rule) -> list[Change]:
        if str(self.computing_device()) == "cpu":
            raise Declined("the WebUI computes on the CPU: there is no card to stream to")
        from .loading import Loading

        return Loading().changes()

    def inside(self) -> A1111Inside:
        return A1111Inside()
