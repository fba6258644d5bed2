"""One load on its way through the staging slots."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ..transfer.reader import Source
from ..transfer.staging import Slot
from .ring import Mark
from .slots import Part
from .supply import Load


@dataclass(eq=False)
class Job:
    """One load. `left`: chunks whose copies are not queued yet; the last one brings the casts and the mark.

    `passing`: what the page cache cannot hold until it is read again.
    """

    load: Load
    after: Sequence[Mark]
    straight: Sequence[tuple[torch.Tensor, torch.Tensor]]
    sources: Sequence[Source]
    passing: Sequence[Part]
    left: int
    read: list[tuple[Sequence[Part], Slot]] = field(default_factory=list)
    begun: bool = False
    mark: Mark = None
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def arrival(self) -> Mark:
        self.done.wait()
        if self.error is not None:
            raise self.error
        return self.mark

    def end(self) -> None:
        """All of it is queued, or nothing more will be; whoever keeps the arrival keeps no memory by that."""
        self.load, self.straight, self.passing = Load(()), (), ()
        self.done.set()
