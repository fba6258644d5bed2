"""Attaches the weights room to a host of Comfy's lineage."""

from __future__ import annotations

from ...patching.change import Change
from ...weights.residency.placement import Placement
from ..common.written_over import WrittenOver
from .files import Files
from .moves import Moves, Streaming
from .names import Names


class Attachment:
    """Files are mapped by us, models come to the device and leave it by us. One for the life of the process."""

    def __init__(
        self,
        names: Names,
        placement: Placement,
        files: type[Files] = Files,
        written_over: type[WrittenOver] = WrittenOver,
    ) -> None:
        self.placement = placement
        self._written_over = written_over(placement)
        self._files = files(names, placement.registry)
        self._moves = Moves(names, placement)

    def stream_by(self, streaming: Streaming) -> None:
        """What does not fit is left to this."""
        self._moves.streaming = streaming

    def was_built_from_files(self) -> bool:
        """Whether every file of the build that this thread has just made was mapped by us. Answers once."""
        return self._files.was_built_from_files()

    def changes(self) -> list[Change]:
        return [*self._written_over.changes(), *self._files.changes(), *self._moves.changes()]
