"""Forge: tiers and streams through the attributes of its memory manager and the WebUI's options."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...memory import Card, MemoryPlan, SwapRule, gib
from ...patching.change import AlreadySo, Call, Change, Declined, Function, Undo, Value, apply
from ...ram import Rule
from ..common import forms, timing
from ..common.card import managed_card
from ..common.webui import NEEDS_A_CARD, NEEDS_WEIGHTS, MemoryItem, Record
from . import pages as forge_pages
from . import stash as forge_stash
from . import swap as forge_swap
from .ahead import Ahead

if TYPE_CHECKING:
    from ...weights.residency.inventory import Share
    from ...weights.residency.placement import Placement
    from ...weights.transfer.direct import Direct
    from ..common.checkpoints import Keeper
    from ..common.keeping import KeepingInside
    from ..common.overlap import Overlap
    from ..common.sampling import Streamed
    from .streaming import Streaming
    from .weights import Attachment

MANAGER = "backend.memory_management"
STREAM = "backend.stream"
MIB = 1 << 20
VRAM_FLAGS = ("always_gpu", "always_high_vram", "always_normal_vram", "always_low_vram", "always_no_vram")


class Forge(Ahead):
    """A host with `backend.memory_management`; every knob is looked for by name before it is used."""

    has_tiers = True
    runs_flux = True
    family = "Forge"
    builds_at_start = False

    def __init__(self, manager: ModuleType) -> None:
        super().__init__()
        self._manager: Any = manager
        self._placement: Placement | None = None
        self._direct: Direct | None = None
        self._attachment: Attachment | None = None
        self._keeper: Keeper | None = None
        self._streaming: Streaming | None = None
        self._overlap: Overlap | None = None

    @property
    def name(self) -> str:
        return "embedded WebUI" if self.simulated() else "Forge"

    def computing_device(self) -> Any:
        return self._manager.get_torch_device()

    def simulated(self) -> bool:
        return bool(getattr(self._manager, "simulated", False))

    def card(self) -> Card:
        return managed_card(self._manager)

    def vram_flag(self) -> str | None:
        arguments = self._arguments()
        return next((_flag(name) for name in VRAM_FLAGS if getattr(arguments, name, False)), None)

    def memory_changes(self, plan: MemoryPlan) -> list[MemoryItem]:
        found: list[MemoryItem] = []
        if plan.high_vram:
            title = "Models stay on the card (HIGH_VRAM)"
            found.append(MemoryItem("vram_state", title, "", [Call(self._set_high_vram)]))
        if plan.inference_bytes is not None:
            kept = Value(MANAGER, "current_inference_memory", _whole_megabytes(plan.inference_bytes))
            why = gib(plan.inference_bytes)
            found.append(MemoryItem("inference_memory", "VRAM kept for inference", why, [kept]))
        if plan.swap is not None and plan.low_vram_below is not None:
            title = "When a model does not fit: how much stays on the card"
            why = f"max(free / {plan.swap.divisor:g}, free - {gib(plan.swap.reserve)}), from "
            why += f"{gib(plan.low_vram_below)} of remaining memory on"
            found.append(MemoryItem("swap_budget", title, why, self._swap(plan.swap, plan.low_vram_below)))
        if plan.no_forced_offload:
            found.append(
                MemoryItem("forced_offload", "No forced off-loading", "", [Call(self._stop_forced_offload)])
            )
        if plan.pin:
            pinned = Value(MANAGER, "PIN_SHARED_MEMORY", True)
            found.append(MemoryItem("pinning", "Swapped weights in pinned memory", "", [pinned]))
        return found

    def memory_options(self, plan: MemoryPlan) -> dict[str, tuple[str, object]]:
        options: dict[str, tuple[str, object]] = {
            "pinning": ("forge_pin_shared_memory", "Shared"),
            "streams": ("forge_async_loading", "Async"),
        }
        if plan.inference_bytes is not None:
            options["inference_memory"] = ("forge_inference_memory", plan.inference_bytes // MIB)
        return options

    def streams_unavailable(self) -> str | None:
        # Forge has tried to create both on its device.
        stream = sys.modules.get(STREAM)
        if getattr(stream, "current_stream", None) is None or getattr(stream, "mover_stream", None) is None:
            return "no CUDA or XPU stream can be created here"
        return None

    def stream_changes(self) -> list[Change]:
        return [Value(STREAM, "stream_activated", True), *forge_stash.changes()]

    def page_changes(self, held: Callable[[], frozenset[str]]) -> list[Change]:
        return forge_pages.changes(held)

    def weight_changes(self, direct: Rule) -> list[Change]:
        # torch is in memory wherever there is a memory manager; hosts/__init__ must not import it for others.
        from ...weights.transfer.lane import simulate
        from ..common.placing import Placing
        from . import need
        from .weights import Attachment

        if self.simulated():
            simulate(kind := self._manager.get_torch_device().type)
            need.KINDS.add(kind)
        if self._placing is None:
            busy, manager = (lambda: self.inside().busy()), self._manager
            self._placing = Placing(self._gate.loading, busy, lambda: manager.get_torch_device())
            self._placement, self._direct = self._placing.placement, self._placing.direct
            self._attachment = Attachment(self._placement)
        assert self._attachment is not None
        return [*self._attachment.changes(), *self._placing.changes(direct)]

    def checkpoint_changes(
        self, limits: tuple[int, int], record: Record, held: Callable[[], frozenset[str]]
    ) -> list[Change]:
        if self._attachment is None:
            raise Declined(NEEDS_WEIGHTS)
        from ...weights.checkpoints import Limits
        from ..common.checkpoints import Keeper
        from .habits import ForgeHabits

        habits = ForgeHabits(self._attachment)
        self._keeper = Keeper(
            self._attachment,
            habits,
            Limits(*limits),
            record,
            lambda: "weights" in held(),
            lambda engine: self._overlap.comes(engine) if self._overlap is not None else None,
        )
        return self._keeper.changes()

    def streaming_changes(self, registers: bool) -> list[Change]:
        device = self._manager.get_torch_device()
        if self._placement is None or self._direct is None:
            raise Declined(NEEDS_WEIGHTS)
        from .need import is_card
        from .streaming import Streaming

        if not is_card(device):
            raise Declined(NEEDS_A_CARD)
        if self._streaming is None:
            self._streaming = Streaming(self._placement, self._direct)
        self._streaming.models.registers = registers
        return self._streaming.changes()

    def streams(self) -> Sequence[Streamed]:
        return self._streaming.models.streams() if self._streaming is not None else ()

    def overlap_changes(self) -> list[Change]:
        from ...weights.transfer.lane import LANES
        from ..common.overlap import Overlap
        from .overlap import ForgeLoads

        if self._placement is None:
            raise Declined(NEEDS_WEIGHTS)
        if self._overlap is None:
            self._overlap = Overlap(self._placement, ForgeLoads(), LANES)
        return self._overlap.changes()

    def unload_changes(self) -> list[Change]:
        from . import unloads as forge_unloads

        return forge_unloads.changes(self._manager)

    def inside(self) -> KeepingInside:
        from ..common.keeping import KeepingInside

        return KeepingInside(self._manager, lambda: self._keeper, self._inventory)

    def timing_changes(self, record: Record) -> list[Change]:
        return timing.forge_changes(record, timing.Witness(self._arrival, self._departure))

    def _departure(self, model: Any) -> int:
        return self._placement.departure(model) if self._placement is not None else 0

    def _arrival(self, model: Any) -> tuple[str, str]:
        streams = self._streaming.sentence(model) if self._streaming is not None else ""
        return forms.arrival(self._placement, model, streams)

    def _inventory(self, module: Any) -> tuple[Share, ...]:
        return forms.as_it_is(module) if self._placement is None else self._placement.inventory(module)

    def _swap(self, rule: SwapRule, low_vram_below: int) -> list[Change]:
        margin = forge_swap.Margin(-low_vram_below)
        return [
            Function(MANAGER, "minimum_inference_memory", margin.wrap_minimum_inference_memory),
            Function(MANAGER, "compute_model_gpu_memory_when_using_cpu_swap", margin.wrap_budget(rule)),
            Function(MANAGER, "load_models_gpu", margin.wrap_load_models_gpu),
        ]

    def _set_high_vram(self) -> Undo:
        flag = self.vram_flag()
        if flag is not None:
            raise Declined(f"{flag} was passed and wins")
        return apply(Value(MANAGER, "vram_state", self._manager.VRAMState.HIGH_VRAM))

    def _stop_forced_offload(self) -> Undo:
        if getattr(self._arguments(), "always_offload_from_vram", False):
            raise Declined("--always-offload-from-vram was passed and wins")
        if not self._manager.ALWAYS_VRAM_OFFLOAD:
            raise AlreadySo("it is off already")
        return apply(Value(MANAGER, "ALWAYS_VRAM_OFFLOAD", False))

    @staticmethod
    def _arguments() -> Any:
        return getattr(sys.modules.get("backend.args"), "args", None)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _whole_megabytes(size: int) -> int:
    return size // MIB * MIB
