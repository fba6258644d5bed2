"""Attaches the weights room to reForge."""

from __future__ import annotations

from ...patching.change import Change
from ...weights.residency.placement import Placement
from ..comfy.names import Names
from ..comfy.weights import Attachment
from . import letting_go
from .files import ReForgeFiles
from .written_over import ReForgeWrittenOver


class ReForgeAttachment(Attachment):
    """And checkpoints that are let go are let go quickly."""

    def __init__(self, names: Names, placement: Placement) -> None:
        super().__init__(names, placement, ReForgeFiles, ReForgeWrittenOver)

    def changes(self) -> list[Change]:
        return [*super().changes(), *letting_go.changes()]
