"""The models of one process that are split, and how a model becomes one."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Collection, Mapping
from typing import Any

import torch

from ... import shortage
from ...stats.report import size as in_words
from ...weights.errors import WeightsError, let_go
from ...weights.named import all_tensors, parameters_of
from ...weights.residency.placement import Placement
from ...weights.snapshot import snapshot
from ...weights.streaming.clock import Timed
from ...weights.streaming.unit import Unit
from ...weights.transfer.direct import Direct
from ..common.engine import CPU
from ..common.timing import name_of as name_of
from . import need, streamed_lora
from .gguf_weights import to_be_baked
from .need import Loading, free, manager
from .splits import Splits
from .streamed import Means, Streamed, streamable
from .streamed_lora import Known, StreamedLoras, at_hand
from .streamed_moves import cast_there

LEAST_MODEL = 256 << 20
"""Bytes of a model that is worth being split."""
log = logging.getLogger("flux_speedup")


class SplitModels(Splits):
    """By model, weakly. The host moves one at a time; what a call must tell another one is kept by thread."""

    def __init__(self, placement: Placement, direct: Direct) -> None:
        super().__init__(placement, direct)
        self.loras = StreamedLoras(self.of, self.drop, lambda: self.loading().need)
        self._streamed: weakref.WeakKeyDictionary[torch.nn.Module, Streamed] = weakref.WeakKeyDictionary()
        self._timed: weakref.WeakKeyDictionary[torch.nn.Module, Timed] = weakref.WeakKeyDictionary()
        self._thread = threading.local()

    @property
    def loads(self) -> Loading | None:
        """The host's load that this thread is in."""
        found: Loading | None = getattr(self._thread, "loads", None)
        return found

    @loads.setter
    def loads(self, loads: Loading | None) -> None:
        self._thread.loads = loads

    def of(self, model: torch.nn.Module) -> Streamed | None:
        """The split of a model, if it is split."""
        return self._streamed.get(model)

    def all(self) -> list[torch.nn.Module]:
        return snapshot(self._streamed.keys)

    def streams(self) -> tuple[Streamed, ...]:
        """Those of which a part streams now."""
        return tuple(each for each in snapshot(self._streamed.values) if each.split.streaming)

    def any_streams(self) -> bool:
        """Whether a part of any model streams now, if only on its way to stay."""
        return any(streamed.stream.streamed for streamed in snapshot(self._streamed.values))

    def drop(self, model: torch.nn.Module) -> None:
        """It is not split any more: what stays, stays, the rest is at home. A LoRA must be merged anew."""
        found = self._streamed.pop(model, None)
        if found is not None:
            found.close()
            self.loras.dropped(model, found.split)
            to_be_baked(model)

    def rest(self, kept: Collection[int]) -> None:
        """Rings of models that are not among these (by id) take no memory until they run again."""
        for model, streamed in snapshot(self._streamed.items):
            if id(model) not in kept:
                streamed.stream.rest()

    def units(self, model: torch.nn.Module) -> Mapping[torch.nn.Module, Unit]:
        """What of a model may stream; in one load of the host's that is found out once."""
        known = self.loads.units if self.loads is not None else {}
        if id(model) not in known:
            known[id(model)] = streamable(model)
        return known[id(model)]

    def _own_units(self, model: torch.nn.Module) -> Mapping[torch.nn.Module, Unit]:
        """The same, for the one who changes them from now on."""
        units = self.units(model)
        if self.loads is not None:
            del self.loads.units[id(model)]
        return units

    def look_again(self, model: torch.nn.Module) -> None:
        """At the begin of a load: what was measured and what was written at home counts from now on."""
        streamed = self.of(model)
        if streamed is not None:
            streamed.look_again()
            if streamed.timed is not None:
                self._timed[model] = streamed.timed

    def split_loading(
        self, model: torch.nn.Module, device: Any, known: Known, *, one_pass: bool
    ) -> Streamed | None:
        """Split a model that the host is loading and that does not fit; None where the host swaps it by itself.

        `known`: the LoRAs in it. `one_pass`: nothing of it but what must is brought to stay.
        """
        if sum(tensor.nbytes for tensor in parameters_of(model)) < LEAST_MODEL:
            return None
        room, streamed = free(device), None
        to_be_free = self.loading().need
        try:
            units, timed = self._own_units(model), self._timed.get(model)
            streamed = Streamed(model, units, device, self._with(device), room - to_be_free, timed)
            streamed.split.set_merges(at_hand(known.merges))
            least = self.at_home(model) - streamed.split.streaming + streamed.stream.ring
            if least > room - need.QUIET // 2:
                skipped: tuple[str, ...] = (
                    f"{in_words(least)} cannot be streamed, {in_words(max(0, room))} are free",
                )
            else:
                skipped = self._placement.load(model, device, streamed.always).skipped
            if not skipped:
                self.fit(streamed, model, one_pass=one_pass)
                streamed.choose_source()
        except (WeightsError, ValueError, RuntimeError) as error:
            skipped = (str(error),)
        if streamed is None or skipped:
            log.warning("%s: not streamed (%s); the WebUI swaps by itself", name_of(model), skipped[0])
            if streamed is not None:
                streamed.close()
                streamed.take_flags_off()
                self.loras.dropped(model, streamed.split)
            return None
        self._streamed[model] = streamed
        self.loras.are_in(model, known)
        why = f"{in_words(room)} were free and {in_words(to_be_free)} are for inference"
        self._tell(streamed, why)
        return streamed

    def split_resident(self, loaded: Any, missing: int) -> Streamed | None:
        """Split a model that is on the card as a whole, by us, and of which only a part has to leave."""
        model = loaded.model.model
        names = {name for name, _ in all_tensors(model)}
        own = sum(tensor.nbytes for tensor in parameters_of(model))
        if own < LEAST_MODEL or missing >= own or loaded.model.offload_device != CPU:
            return None
        if not names <= self.here(model) or not self.loras.can_split(model):
            return None
        try:
            units, timed = self._own_units(model), self._timed.get(model)
            streamed = Streamed(model, units, loaded.device, self._with(loaded.device), own, timed)
        except ValueError:
            return None
        streamed.split.set_merges(at_hand(self.loras.known(model).merges))
        self._streamed[model] = streamed
        self._tell(streamed, "others need room")
        return streamed

    def fit(
        self, streamed: Streamed, model: torch.nn.Module, *, one_pass: bool = False, later: bool = False
    ) -> None:
        """Let stay all of it where there is room for that, else what fits besides the ring and inference.

        With a LoRA less stays: merging takes room as well, at every step where a part streams.
        `one_pass`: nothing comes that is not there yet. `later`: what comes need not be there yet.
        """
        split, stream, loading = streamed.split, streamed.stream, self.loading()
        streamed.least = loading.least
        ways = ((loading.whole, split.whole), (loading.need, None))
        if split.merges:
            ways = ((loading.need, split.whole), (loading.need + streamed_lora.MERGING, None))
        for keep, budget in ways:
            room = split.staying + stream.held + (0 if one_pass else free(streamed.device) - keep)
            if budget is not None and room < budget:
                continue
            try:
                streamed.fit(max(0, room - stream.ring) if budget is None else budget, later=later)
            except Exception as error:
                # Merging into what comes may find no memory.
                if not isinstance(error, WeightsError) and not shortage.of_card(error):
                    raise
                let_go(error)
                log.info("%s: %s; what did not come streams", name_of(model), error)
            else:
                return

    def loading(self) -> Loading:
        """What must be free while a model computes."""
        return self.loads or need.outside()

    def at_home(self, model: torch.nn.Module) -> int:
        """Bytes of it that are not on the device."""
        here = self.here(model)
        return sum(tensor.nbytes for name, tensor in all_tensors(model) if name not in here)

    def here(self, model: torch.nn.Module) -> set[str]:
        """Names of its weights that are on the device."""
        loader: Any = getattr(model, "lora_loader", None)
        here = {*self._placement.of(model).resident, *(getattr(loader, "backup", None) or ())}
        return here | cast_there(model, manager().get_torch_device())

    def _with(self, device: torch.device) -> Means:
        means = self._means(device)
        if means is None:
            raise ValueError(f"there is no way to stream to {device}")
        return means


def is_diffusion(model: torch.nn.Module) -> bool:
    """What computes many times a load: others give way to it."""
    return hasattr(model, "diffusion_model")


def pushes(models: SplitModels, model: torch.nn.Module) -> bool:
    """Whether others give way so that all of it comes to stay; else it streams what does not fit beside them."""
    loads = models.loads
    if is_diffusion(model) or loads is None or len(loads.models) > 1:
        return True
    if id(model) not in loads.pushes:
        loads.pushes[id(model)] = models.at_home(model) < LEAST_MODEL or not models.units(model)
    return loads.pushes[id(model)]
