"""A host whose memory manager is of Comfy's lineage: `LoadedModel`, `ModelPatcher.partially_load`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...memory import Card
from ...patching.change import Change, Declined
from ...ram import Rule
from ..common import forms
from ..common.card import managed_card
from ..common.managed import ManagedInside
from ..common.timing import Witness
from ..common.webui import Record
from ..forge.ahead import Ahead
from .names import Names
from .timing import move_changes

if TYPE_CHECKING:
    from ...weights.residency.inventory import Share
    from ...weights.residency.placement import Placement
    from .weights import Attachment


def has_the_lineage(manager: ModuleType | None) -> bool:
    """Whether a memory manager moves models as Comfy does, whole or in part, by its `LoadedModel`."""
    loaded = getattr(manager, "LoadedModel", None)
    return hasattr(loaded, "model_use_more_vram") and hasattr(manager, "vram_state")


class Comfy(Ahead):
    """What Forge Neo and reForge share. args_name: the module of the flags; vram_flags: as they are parsed."""

    args_name: str
    vram_flags: Sequence[str] = ()
    taken_over: Names

    def __init__(self, manager: ModuleType) -> None:
        super().__init__()
        self._manager: Any = manager
        self._attachment: Attachment | None = None

    @property
    def name(self) -> str:
        return self.family

    def computing_device(self) -> Any:
        return self._manager.get_torch_device()

    def simulated(self) -> bool:
        return bool(getattr(self._manager, "simulated", False))

    def card(self) -> Card:
        return managed_card(self._manager)

    def vram_flag(self) -> str | None:
        found = next((name for name in self.vram_flags if self._was_passed(name)), None)
        return None if found is None else "--" + found.replace("_", "-")

    def _was_passed(self, flag: str) -> bool:
        return bool(getattr(getattr(sys.modules.get(self.args_name), "args", None), flag, False))

    def quiet(self) -> AbstractContextManager[None]:
        """Entered around every load: whatever else reads the same disk waits."""
        return self._gate.loading()

    def inside(self) -> ManagedInside:
        return ManagedInside(self._manager, self._inventory)

    def timing_changes(self, record: Record) -> list[Change]:
        witness = Witness(self._arrival, self._departure)
        return [*self.load_events(record), *move_changes(self.taken_over.manager, record, witness)]

    def weight_changes(self, direct: Rule) -> list[Change]:
        if self._was_passed("disable_mmap"):
            # Whoever passes it wants weights in RAM, and files to be free once they were read.
            raise Declined("left to the WebUI: --disable-mmap was passed, and no file is to stay mapped")
        # torch is in memory wherever there is a memory manager; hosts/__init__ must not import it for others.
        from ..common.placing import Placing

        if self._placing is None:
            self._placing = Placing(self.quiet, lambda: self.inside().busy(), self.computing_device)
            self._attachment = self.attach(self.taken_over, self._placing.placement)
        assert self._attachment is not None
        return [*self._attachment.changes(), *self._placing.changes(direct)]

    def attach(self, names: Names, placement: Placement) -> Attachment:
        """What takes weights over on this host."""
        raise NotImplementedError

    def _arrival(self, model: Any) -> tuple[str, str]:
        return forms.arrival(self._placement(), model, self.streamed_of(model))

    def streamed_of(self, model: Any) -> str:
        """What of a model streams, in words; empty where nothing does."""
        return ""

    def _inventory(self, module: Any) -> tuple[Share, ...]:
        placement = self._placement()
        return forms.as_it_is(module) if placement is None else placement.inventory(module)

    def _placement(self) -> Placement | None:
        return self._attachment.placement if self._attachment is not None else None

    def _departure(self, model: Any) -> int:
        return self._attachment.placement.departure(model) if self._attachment is not None else 0

    def load_events(self, record: Record) -> list[Change]:
        """Changes that report the checkpoints that are built."""
        return super().timing_changes(record)
