"""Models that do not fit on the card, in Forge Neo: in place of the host's copies of whole layers at every step.

The host decides how much of a model stays, and keeps its books; ours which layers those are, spread over the
order in which they run, and brings the others while it computes. With LoRAs the host's choice stands as well, as it
merges into what stays and computes them anew, at each use, for what does not; so both are as they were without us.
What streams is marked as the host marks what it keeps in RAM, and lies there, so that the host moves by itself
whatever is not there when it is needed.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...patching.change import Call, Change, Function, Undo
from ...weights.errors import OUT_OF_MEMORY, WeightsError
from ...weights.named import all_tensors
from ...weights.residency.placement import Placement
from ...weights.snapshot import snapshot
from ...weights.transfer.direct import Direct
from ..comfy import refused
from ..comfy.names import Names
from ..common.timing import name_of
from ..forge import need
from ..forge.sampling_memory import Asking
from ..forge.splits import Splits
from ..forge.streamed import streamable
from ..forge.streamed_pass import Passes
from .one_pass import OnePass
from .split import Split, bring_up_to_date, is_marked, mark

log = logging.getLogger("flux_speedup")


class Streaming(Splits):
    """The split models of one process. The host moves one at a time. `on`: whether models are split."""

    def __init__(self, names: Names, placement: Placement, direct: Direct) -> None:
        super().__init__(placement, direct)
        self.on = False
        self._names = names
        self._splits: weakref.WeakKeyDictionary[torch.nn.Module, Split] = weakref.WeakKeyDictionary()
        self._one_pass = OnePass(names.manager, self._may_split)

    def changes(self) -> list[Change]:
        asking = Asking(self._free_alone)

        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            return asking.around_pass(self.around_pass(original))

        one_pass = Function("backend.modules.k_model", "KModel.apply_model", wrap, guarded=False)
        loads = Function(self._names.manager, "load_models_gpu", self._wrap_load_models)
        begin = Call(self._begin, module=self._names.manager)
        return [begin, loads, *self._one_pass.changes(), one_pass, *asking.changes()]

    def _free_alone(self, device: Any, free: int) -> int:
        return free + sum(split.besides for split in snapshot(self._splits.values) if split.device == device)

    def _wrap_load_models(self, original: Callable[..., Any]) -> Callable[..., Any]:
        host = self._one_pass.wrap_load_models(original)

        def load_models_gpu(*args: Any, **kwargs: Any) -> Any:
            # The manager counts what is free without our rings, as it would alone.
            for split in snapshot(self._splits.values):
                split.stream.rest()
            return host(*args, **kwargs)

        return load_models_gpu

    def around_pass(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """One that runs out of memory is made again, as often as something gives way."""

        def one_pass(*args: Any, **kwargs: Any) -> Any:
            before = refused.refusals()
            found = original(*args, **kwargs)
            if refused.refusals() != before and self._with_loras():
                # Some of the host's kinds of LoRA go on without themselves then.
                raise OUT_OF_MEMORY("a LoRA that is computed at its use ran out of memory")
            return found

        return Passes(self._make_room).wrap(one_pass)

    def _with_loras(self) -> dict[torch.nn.Module, Split]:
        return {model: split for model, split in snapshot(self._splits.items) if not split.own}

    def of(self, model: torch.nn.Module) -> Split | None:
        """The split of a model, if it is split."""
        return self._splits.get(model)

    def all(self) -> list[Split]:
        return [split for split in snapshot(self._splits.values) if split.coming]

    def sentence(self, model: torch.nn.Module) -> str:
        """What of it stays and what streams; empty where it does not stream."""
        found = self.of(model)
        return found.sentence() if found is not None and found.coming else ""

    def drop(self, model: torch.nn.Module) -> None:
        """It is not split any more: what stays, stays, the rest is at home, the host's to move."""
        found = self._splits.pop(model, None)
        if found is not None:
            found.close()

    def fits_again(self, patcher: Any, memory: float) -> bool:
        """Whether a model that is split has what it needs: units stay, as many as `memory` bytes hold now."""
        split = self.of(patcher.model)
        same = patcher.model.current_weight_patches_uuid == patcher.patches_uuid
        if split is None or not split.own or not same or not is_plain(patcher):
            return False
        budget = self._budget(split, memory)
        all_of_it = budget >= split.resident + split.coming - split.always_bytes
        if split.one_pass is not self._one_pass.is_of(patcher) or (all_of_it and not split.one_pass):
            return False
        split.look_again()
        split.given = int(memory)
        return self._fit(patcher, split, budget)

    def _budget(self, split: Split, memory: float) -> int:
        """Bytes of units that may stay."""
        if not split.one_pass:
            return int(memory) + split.held - split.ring - split.always_bytes
        free = int(_manager(self._names).get_free_memory(split.device)) - need.QUIET
        return split.split.staying + min(0, free + split.held - split.ring)

    def begin(self, patcher: Any, device: torch.device, memory: float) -> bool:
        """Split a model that the host loads in part, into which nothing is merged; what stays is brought. False:
        it is not split, and nothing has changed."""
        if not self.on or not is_plain(patcher):
            return False
        marks = [(module, dict(vars(module))) for module in patcher.model.modules() if is_marked(module)]
        with _or_the_host(name_of(patcher.model)):
            split = self._split(
                patcher.model, device, memory, own=True, one_pass=self._one_pass.is_of(patcher)
            )
            if split is None:
                return False
            self._splits[patcher.model] = split
            split.given = int(memory)
            split.short = split.given - int(patcher.model.model_loaded_weight_memory)
            # What the host chose to leave in RAM it has registered, where it does so; what it does not find at home
            # later would stay registered for good.
            patcher.unpin_all_weights()
            moved = not self._placement.load(patcher.model, device, split.always).skipped
            if moved and self._fit(patcher, split, self._budget(split, memory)):
                bring_up_to_date(patcher.model, split)
                self._tell(split)
                return True
        self.drop(patcher.model)
        for module, before in marks:
            mark(module, before)
        return False

    def around(self, patcher: Any, device: torch.device) -> None:
        """Stream what the host has left at home of a model of which the rest is on the device."""
        if not self.on or not patcher.model.model_lowvram:
            return
        with _or_the_host(name_of(patcher.model)):
            split = self._split(patcher.model, device, patcher.model.model_loaded_weight_memory, own=False)
            if split is not None:
                split.split.give_way(0)
                split.choose_source()
                self._splits[patcher.model] = split
                self._tell(split)

    def give_way(self, patcher: Any, size: float) -> int:
        """Units of a split model leave; how many bytes went."""
        split = self.of(patcher.model)
        if split is None or not split.own:
            return 0
        try:
            gone = split.give_way(int(size) + 1)
        except WeightsError as error:
            log.warning("%s cannot give way (%s); the WebUI unloads it", split.name, error)
            return 0
        split.given -= gone
        patcher.model.model_loaded_weight_memory -= gone
        return gone

    def _fit(self, patcher: Any, split: Split, budget: int) -> bool:
        with _or_the_host(split.name):
            split.split.fit(max(0, budget))
            split.choose_source()
            patcher.model.model_loaded_weight_memory = split.resident
            split.measure()
            return True
        return False

    def _split(self, model: torch.nn.Module, device: torch.device, room: float, **kind: bool) -> Split | None:
        means, units = self._means(device), streamable(model)
        if means is None or not units or (kind["own"] and not self._moves_all_of(model)):
            return None
        return Split(model, units, device, means, int(room), None, **kind)

    def _may_split(self, patcher: Any) -> bool:
        there = self.on and self._means(patcher.load_device) is not None
        return there and is_plain(patcher) and self._moves_all_of(patcher.model)

    def _moves_all_of(self, model: torch.nn.Module) -> bool:
        return {name for name, _ in all_tensors(model)} <= self._placement.of(model).movable()

    def _make_room(self, size: int) -> int:
        manager, gone = _manager(self._names), 0
        for loaded in list(manager.current_loaded_models):
            if loaded.model is not None and gone < size:
                gone += self.give_way(loaded.model, size - gone)
        # Of one with LoRAs no layer can leave; without our ring it takes what it would without us.
        for model, split in self._with_loras().items() if not gone else ():
            gone += split.ring
            self.drop(model)
        return gone

    def _begin(self) -> Undo:
        self.on = True

        def end() -> None:
            self.on = False
            for model in snapshot(self._splits.keys):
                self._leave(model)

        return end

    def _leave(self, model: torch.nn.Module) -> None:
        """It leaves the device as a whole: at home it is as the host would have it."""
        current = _manager(self._names).current_loaded_models
        for loaded in [each for each in current if each.model is not None and each.model.model is model]:
            current.remove(loaded)
            loaded.model_unload()
        self.drop(model)


@contextmanager
def _or_the_host(name: str) -> Iterator[None]:
    """Where what is done in here fails, the model is not streamed, and that is said."""
    try:
        yield
    except (WeightsError, ValueError, RuntimeError) as error:
        log.warning("%s is not streamed (%s); the WebUI copies by itself", name, error)


def is_plain(patcher: Any) -> bool:
    """Whether nothing is merged into its weights, nor computed of them at each use."""
    return not (patcher.patches or patcher.weight_wrapper_patches or patcher.force_cast_weights)


def _manager(names: Names) -> Any:
    return sys.modules[names.manager]
