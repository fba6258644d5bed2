"""Where the bytes of one model's streamed units come from, chosen by rule.

The file's own pages, where the device reads them there; else pinned copies of ours, as far as half of the RAM goes;
else the page cache, through staging. Weights that get a LoRA: pinned copies with the LoRA in them, made at their
first arrival, as far as that goes; else they get it whenever they arrive.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from ...ram import HELD, Held
from ...stats.report import size as in_words
from ..files.mapping import Registry
from ..packed.store import PACKED, Store
from ..transfer.blocks import Blocks
from ..transfer.direct import Direct
from ..transfer.transfer import default_threads
from .kept import Kept
from .sources import Sources
from .staged import Staged
from .supply import Straight, Supply
from .timeline import Timeline
from .unit import Unit

REGISTERED = "registered file pages"
CACHED = "page cache"


class Origin:
    """Not thread safe: the host moves models one at a time. `kept` is the stream's once that is made."""

    def __init__(
        self,
        timeline: Timeline,
        registry: Registry,
        direct: Direct | None,
        *,
        blocks: Blocks | None = None,
        held: Held = HELD,
        store: Store = PACKED,
    ) -> None:
        """`direct`: registers files; None where the device cannot read such memory. `held`: the ledger of RAM."""
        self._timeline = timeline
        self._registry = registry
        self._held = held
        self._sources = Sources(registry, direct, timeline.device, store)
        self._registered = False
        self.pieces = self._sources.pieces
        self.kept = Kept(timeline, blocks or Blocks(pinned=timeline.pinned, held=held), self._is_slow)

    @property
    def straight(self) -> bool:
        """Whether the device reads everything where it is."""
        return self._registered or not self._timeline.pinned

    def supply(self) -> Supply:
        """A new one, for what was chosen last."""
        if self.straight:
            return Straight(self._timeline, REGISTERED if self._registered else CACHED)
        is_written = self._sources.is_written
        return Staged(self._timeline, self._registry, CACHED, default_threads(), is_written=is_written)

    def choose(self, homes: Sequence[torch.Tensor], soon: torch.device | None = None) -> bool:
        """Register what these weights are read from, where that can be; whether another supply is needed now.

        `soon`: nobody waits for that; it is for the next time (see `Sources.hold`).
        """
        before, self._registered = self._registered, self._sources.hold(homes, soon)
        return before != self._registered

    @property
    def changes(self) -> int:
        """Where that has grown, bytes may lie elsewhere: more is registered, or less."""
        self._sources.look_again()
        return self._sources.changes

    def changed(self) -> bool:
        """Whether somebody has written at home since the last time: what was brought or kept is old."""
        return self._sources.changed()

    def is_short(self) -> bool:
        """Whether RAM is so short that no copies should be kept for speed alone."""
        return self._held.is_short()

    def close(self) -> None:
        """Registered files may go. (The stream has closed what is kept.)"""
        self._sources.close()

    def words(self, units: Collection[Unit]) -> str:
        """Where the bytes of these units come from, for people."""
        found = [REGISTERED if self._registered else CACHED]
        kept = [unit for unit in units if self.kept.find(unit) is not None]
        clean = sum(unit.bytes for unit in kept if not unit.merges)
        once = sum(unit.bytes for unit in kept if unit.merges)
        later = sum(unit.bytes for unit in units if unit.merges) - once
        if clean:
            found.append(f"{in_words(clean)} of it pinned")
        if once:
            found.append(f"{in_words(once)} with their LoRA in pinned RAM")
        if later:
            found.append(f"{in_words(later)} get their LoRA as they arrive")
        return ", ".join(found)

    def _is_slow(self, unit: Unit) -> bool:
        if self.straight or any(slot.raw is not None for slot in unit.slots):
            return False
        return not all(self._sources.is_registered(slot) for slot in unit.slots)
