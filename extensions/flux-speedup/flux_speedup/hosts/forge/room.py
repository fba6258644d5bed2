"""Room on the card: units leave for whoever needs it, and come back when it is there again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

import torch

from ...stats.report import size as in_words
from ...weights.errors import WeightsError
from . import need
from .need import free, is_card, manager
from .split_models import SplitModels, is_diffusion, name_of, pushes
from .streamed import Streamed, least

Model = torch.nn.Module
_ATTEMPTS = 4
log = logging.getLogger("flux_speedup")


class Room:
    """What makes room among the host's loaded models."""

    def __init__(self, models: SplitModels) -> None:
        self._models = models

    def wanted(self, memory_required: float, device: torch.device) -> float:
        """What must be free: not for all of a model that can stream where it would push another one out."""
        loads = self._models.loads
        if loads is None or free(device) > memory_required:  # looking at thousands of weights takes a while
            return memory_required
        current = manager().current_loaded_models
        wanted, besides = 0, loads.need
        for patcher in loads.models:
            if patcher.load_device != device or any(loaded.model is patcher for loaded in current):
                continue
            model = patcher.model
            if pushes(self._models, model):
                wanted += self._models.at_home(model)
            else:
                wanted += least(model, self._models.units(model), self._models.here(model))
                besides = need.QUIET
        return min(memory_required, wanted + besides)

    def make(self, wanted: float, device: Any, may: Callable[[Model], bool]) -> None:
        """Units leave, of the models used longest ago first, until so much is free or none is left."""
        for loaded in reversed(list(manager().current_loaded_models)):
            if loaded.device != device or not may(loaded.model.model):
                continue
            # What left is not all free at once: the allocator rounds, and registering files takes a little.
            for _ in range(_ATTEMPTS):
                missing = int(wanted - free(device)) + 1
                if missing <= 1:
                    return
                if not self._give_way(loaded, missing):
                    break

    def let_forgotten_go(self, wanted: float, device: Any) -> None:
        """The host forgets clones that nobody has any more, and leaves their weights where they are."""
        loads = self._models.loads
        known = {id(loaded.model.model) for loaded in manager().current_loaded_models}
        known |= {id(patcher.model) for patcher in loads.models} if loads is not None else set()
        for model in self._models.all():
            streamed = self._models.of(model)
            short = free(device) < wanted
            if streamed is None or not short or id(model) in known:
                continue
            try:
                streamed.leave()
            except WeightsError as error:
                log.warning("%s cannot leave the card (%s)", name_of(model), error)
            self._models.drop(model)

    def make_now(self, size: int, loading: Any = None) -> int:
        """A computation ran out of memory: units of any model leave. Returns bytes that are free since.

        `loading`: what the host is loading, which is in none of its lists yet; it gives way first.
        """
        device = manager().get_torch_device()
        if not is_card(device):
            return 0
        before = free(device)
        if loading is not None and loading.device == device:
            self._give_way(loading, size)
        self.make(before + size, device, lambda _: True)
        return free(device) - before

    def come_back(self, model: Model, beside: Collection[Model]) -> None:
        """Let units of a loaded model stay again, as many as there is room for; others give way to some.

        They come while it runs next.
        """
        streamed = self._models.of(model)
        if streamed is None:
            return
        if is_diffusion(model) and streamed.split.streaming:
            kept = {id(one) for one in beside}
            wanted = self._models.loading().need + streamed.split.streaming
            self.make(wanted, streamed.device, lambda one: id(one) not in kept)
            self._unload_others(wanted, streamed.device, kept)
        if is_diffusion(model) or len(beside) > 1:
            self._models.fit(streamed, model, later=True)
        if is_diffusion(model):  # what else runs has no second round
            streamed.measure()

    def _unload_others(self, wanted: int, device: Any, kept: Collection[int]) -> None:
        """As the host does it for a model that comes, those used longest ago first."""
        current = manager().current_loaded_models
        for loaded in reversed(list(current)):
            if free(device) >= wanted:
                return
            if loaded.device == device and id(loaded.model.model) not in kept:
                current.remove(loaded)
                loaded.model_unload()

    def _give_way(self, loaded: Any, missing: int) -> int:
        model = loaded.model.model
        streamed = self._models.of(model) or self._models.split_resident(loaded, missing)
        if streamed is None:
            return 0
        gone = self._leave(model, streamed, missing)
        if gone:
            loaded.model_accelerated = True  # so that the host takes its marks off when it unloads the model
        return gone

    def _leave(self, model: Model, streamed: Streamed, missing: int) -> int:
        try:
            gone = streamed.give_way(missing)
        except WeightsError as error:
            log.warning("%s cannot give way (%s); the WebUI unloads it", name_of(model), error)
            return 0
        if gone:
            log.debug("%s: %s gave way, %s were missing", name_of(model), in_words(gone), in_words(missing))
        return gone
