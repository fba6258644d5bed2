"""Forge Neo: Forge's pages over a memory manager of Comfy's lineage, under the name that Forge's has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ...memory import MemoryPlan, gib
from ...patching.change import Change, Declined, Function
from ..comfy.names import Names
from ..comfy.webui import Comfy
from ..common import timing
from ..common.webui import NEEDS_A_CARD, NEEDS_WEIGHTS, MemoryItem, Record

if TYPE_CHECKING:
    from types import ModuleType

    from ...weights.residency.placement import Placement
    from ..comfy.weights import Attachment
    from ..common.checkpoints import Keeper
    from ..common.keeping import KeepingInside
    from ..common.overlap import Overlap
    from ..common.sampling import Streamed
    from .streaming import Streaming

MANAGER = "backend.memory_management"
# Those that read their weights as PyTorch does.
LAYERS = ("Linear", "Conv1d", "Conv2d", "Conv3d", "GroupNorm", "LayerNorm", "Embedding")


class Neo(Comfy):
    """`backend.memory_management` without the numbers of Forge's."""

    has_tiers = True
    runs_flux = True
    builds_at_start = False
    taken_over = Names(
        manager=MANAGER,
        patcher="backend.patcher.base",
        build=("modules.sd_models", "forge_loader"),
        reading="backend.loader",
        operations="backend.operations",
        layers=tuple(f"ForgeOperations.{layer}" for layer in LAYERS),
        initial_device="unet_initial_load_device",
    )
    family = "Forge Neo"
    args_name = "backend.args"
    vram_flags = ("gpu_only", "highvram", "normalvram", "lowvram", "novram")
    unavailable: ClassVar[Mapping[str, str]] = {
        "streams": "left to the WebUI: --cuda-stream switches copy streams on here",
    }

    def __init__(self, manager: ModuleType) -> None:
        super().__init__(manager)
        self._keeper: Keeper | None = None
        self._streaming: Streaming | None = None
        self._overlap: Overlap | None = None

    def memory_changes(self, plan: MemoryPlan) -> list[MemoryItem]:
        # What is loaded stays until there is no room, whatever `vram_state` is; and what does not fit is loaded in
        # part by the manager itself. In HIGH_VRAM nothing would give way.
        if plan.inference_bytes is None:
            return []
        from .reserve import Reserve

        wanted = plan.inference_bytes
        reserve = Reserve(self._manager, wanted).changes()
        return [MemoryItem("inference_memory", "VRAM kept for inference", gib(wanted), reserve)]

    def attach(self, names: Names, placement: Placement) -> Attachment:
        from .weights import NeoAttachment

        return NeoAttachment(names, placement)

    def load_events(self, record: Record) -> list[Change]:
        return [Function("modules.sd_models", "forge_loader", partial(timing.time_checkpoint, record))]

    def streaming_changes(self, registers: bool) -> list[Change]:
        from ..forge.need import is_card
        from .streaming import Streaming

        if self._placing is None or self._attachment is None:
            raise Declined(NEEDS_WEIGHTS)
        if not is_card(getattr(self._manager, "get_torch_device", lambda: None)()):
            raise Declined(NEEDS_A_CARD)
        if self._streaming is None:
            self._streaming = Streaming(self.taken_over, self._placing.placement, self._placing.direct)
            self._attachment.stream_by(self._streaming)
        self._streaming.registers = registers
        return self._streaming.changes()

    def streamed_of(self, model: Any) -> str:
        return self._streaming.sentence(model) if self._streaming is not None else ""

    def streams(self) -> Sequence[Streamed]:
        return self._streaming.all() if self._streaming is not None else ()

    def overlap_changes(self) -> list[Change]:
        from ...weights.transfer.lane import LANES
        from ..common.overlap import Overlap
        from .overlap import NeoLoads

        if self._placing is None:
            raise Declined(NEEDS_WEIGHTS)
        if self._overlap is None:
            self._overlap = Overlap(self._placing.placement, NeoLoads(), LANES)
        return self._overlap.changes()

    def checkpoint_changes(
        self, limits: tuple[int, int], record: Record, held: Callable[[], frozenset[str]]
    ) -> list[Change]:
        if self._attachment is None:
            raise Declined(NEEDS_WEIGHTS)
        from ...weights.checkpoints import Limits
        from ..common.checkpoints import Keeper
        from .habits import NeoHabits

        self._keeper = Keeper(
            self._attachment,
            NeoHabits(),
            Limits(*limits),
            record,
            lambda: "weights" in held(),
            lambda engine: self._overlap.comes(engine) if self._overlap is not None else None,
        )
        return self._keeper.changes()

    def unload_changes(self) -> list[Change]:
        from ..common.unloads import InForce, Unloads

        def in_force(loading: str) -> InForce:
            return InForce(loading, 0, False)  # the manager gives way by itself, whatever inference needs

        setters = ("refresh_model_loading_parameters",)
        return Unloads(setters, self._manager, in_force, by_model=True).changes()

    def inside(self) -> KeepingInside:
        from ..common.keeping import KeepingInside

        return KeepingInside(self._manager, lambda: self._keeper, self._inventory)
