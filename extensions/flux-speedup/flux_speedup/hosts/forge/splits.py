"""What the split models of a process have in common: what they are made with, and what is told of them."""

from __future__ import annotations

import logging

import torch

from ...weights.residency.placement import Placement
from ...weights.streaming.timeline import Timeline, timeline_for
from ...weights.transfer.direct import Direct
from .streamed import Means, Streamed

log = logging.getLogger("flux_speedup")


class Splits:
    """`registers`: whether files may be registered with CUDA."""

    def __init__(self, placement: Placement, direct: Direct) -> None:
        self.registers = True
        self._placement = placement
        self._direct = direct
        self._timelines: dict[torch.device, Timeline | None] = {}
        self._said: dict[str, str] = {}

    def _means(self, device: torch.device) -> Means | None:
        """What a split model is made with on a device; None where there is no way to stream to it."""
        if device not in self._timelines:
            self._timelines[device] = timeline_for(device)
        timeline = self._timelines[device]
        direct = self._direct if self._direct.serves(device) and self.registers else None
        return None if timeline is None else Means(self._placement, timeline, direct)

    def _tell(self, split: Streamed, because: str = "") -> None:
        """Once, until it is another sentence, or of another model."""
        sentence = split.sentence()
        if self._said.get(split.name) != sentence:
            self._said[split.name] = sentence
            log.info("%s: %s%s", split.name, sentence, f", because {because}" if because else "")
