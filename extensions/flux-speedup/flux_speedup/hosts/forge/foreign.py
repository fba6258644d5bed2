"""Says which weights of a model are only the WebUI's to move, and why: once a model."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Collection

import torch

from ...weights.residency.forms import why_not
from ..common.timing import COMPONENTS

log = logging.getLogger("flux_speedup")


class Foreign:
    """Remembers of which models it was said. Holds them weakly."""

    def __init__(self) -> None:
        self._told: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()

    def tell(self, model: torch.nn.Module, skipped: Collection[str]) -> None:
        """`skipped`: names of the weights that a load left alone."""
        if not skipped or model in self._told:
            return
        self._told.add(model)
        found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        why = ", ".join(sorted({why_not(found[name]) for name in skipped if name in found}))
        name = COMPONENTS.get(type(model).__name__, type(model).__name__)
        log.info("%s: %d weights are only the WebUI's to move (%s)", name, len(skipped), why)
