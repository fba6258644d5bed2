"""Attaches the weights room to Forge Neo."""

from __future__ import annotations

from ...patching.change import Change
from ...weights.residency.placement import Placement
from ..comfy.names import Names
from ..comfy.weights import Attachment
from . import computed_loras, giving_back, quantised
from .files import NeoFiles


class NeoAttachment(Attachment):
    """And its quantised weights are known, and LoRAs that are computed at each use are there once."""

    def __init__(self, names: Names, placement: Placement) -> None:
        super().__init__(names, placement, NeoFiles)
        self._names = names

    def changes(self) -> list[Change]:
        names = self._names
        own = [*computed_loras.changes(names.patcher), *giving_back.changes(names.manager)]
        return [*super().changes(), *quantised.changes(), *own]
