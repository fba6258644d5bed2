"""Free memory, as the host asks for it before several images are decoded or encoded: as it would be with it alone.

It takes as many of them at once as there is room for, and that shows in their last bits. Where the VAE needs room
the host unloads the transformer as a whole, where by us a few of its layers leave: so less is free. What the host
would take at once has its room all the same: more layers leave.
"""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from ...patching.change import Call, Change, Function, Undo, all_or_nothing, in_reverse
from ...weights.named import all_tensors
from ...weights.residency.signature import taken
from .alone import Alone, Load
from .need import MANAGER, Loading, is_card, manager
from .split_models import SplitModels

VAE, PROCESSING = "backend.patcher.vae", "modules.processing"
WAYS = (("VAE.decode_inner", "memory_used_decode", 1), ("VAE.encode_inner", "memory_used_encode", -1))
"""Functions, what each asks how much an image takes, and where in its argument's shape the channels are."""
REMEMBERED = 256
"""Calls of the host: what was loaded before is no longer on its card alone."""
Make = Callable[[float, Any, Callable[[torch.nn.Module], bool]], None]
Patchers = tuple["weakref.ref[Any]", ...]
log = logging.getLogger("flux_speedup")


@dataclass(frozen=True)
class Question:
    """How much is free for so many images, of which each takes `each` bytes."""

    vae: torch.nn.Module
    count: int
    each: int


class DecodingMemory:
    """As Forge would leave it. `make`: see `Room.make`."""

    def __init__(self, models: SplitModels, make: Make) -> None:
        self._models = models
        self._make = make
        self._thread = threading.local()
        self._calls: deque[tuple[Patchers, float, int]] = deque(maxlen=REMEMBERED)

    def changes(self) -> list[Change]:
        return [Call(self._begin, module=PROCESSING)]

    def _begin(self) -> Undo:
        if VAE not in sys.modules:  # it decodes in another way
            return in_reverse([])
        return all_or_nothing(
            [
                *(Function(VAE, path, partial(self._wrap, asks, channels)) for path, asks, channels in WAYS),
                Function(MANAGER, "load_models_gpu", self._wrap_load),
                Function(MANAGER, "free_memory", self._wrap_free_memory),
                # Asked at every step: nothing stands around it.
                Function(MANAGER, "get_free_memory", self._wrap_free, guarded=False),
            ]
        )

    def _wrap(self, asks: str, channels: int, original: Callable[..., Any]) -> Callable[..., Any]:
        def inner(vae: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
            if len(images) > 1 and is_card(vae.device) and _unloads_as_needed():
                each = int(getattr(vae, asks)(images.movedim(channels, 1).shape, vae.vae_dtype))
                self._thread.asks = Question(vae.patcher.model, len(images), max(1, each))
            try:
                return original(vae, images, *args, **kwargs)
            finally:
                self._thread.asks = None

        return inner

    def _wrap_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """What is asked for in a load is not the question."""

        def load_models_gpu(
            models: Any, memory_required: float = 0, hard_memory_preservation: float = 0
        ) -> Any:
            loading = Loading.of(models, memory_required, hard_memory_preservation)
            self._calls.append((tuple(map(weakref.ref, models)), loading.need, loading.least))
            asks, self._thread.asks = getattr(self._thread, "asks", None), None
            self._thread.loads = True
            try:
                return original(models, memory_required, hard_memory_preservation)
            finally:
                self._thread.asks, self._thread.loads = asks, False

        return load_models_gpu

    def _wrap_free_memory(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def free_memory(
            memory_required: float, device: Any, keep_loaded: Any = (), free_all: bool = False
        ) -> Any:
            if free_all:
                self._calls.clear()
            elif not getattr(self._thread, "loads", False) and is_card(device):
                kept = tuple(weakref.ref(loaded.model) for loaded in keep_loaded)
                self._calls.append((kept, memory_required, 0))
            return original(memory_required, device, keep_loaded, free_all)

        return free_memory

    def _wrap_free(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
            free = original(dev, torch_free_too)
            asks: Question | None = getattr(self._thread, "asks", None)
            if asks is None or torch_free_too:
                return free
            self._thread.asks = None
            try:
                return self._alone(asks, dev, int(free))
            except Exception as error:
                log.warning("as many images at once as there is room for now (%s)", error)
                return free

        return get_free_memory

    def _alone(self, asks: Question, device: Any, free: int) -> int:
        models = {id(loaded.model.model): loaded.model.model for loaded in manager().current_loaded_models}
        models |= {id(model): model for model in self._models.all()}
        size_of = cache(_bytes)  # a load is replayed hundreds of times
        space = free + taken(device) + sum(self._here(model, device, size_of) for model in models.values())
        budget = manager().compute_model_gpu_memory_when_using_cpu_swap
        alone = Alone(space, size_of, budget).replay(self._loads(device))
        at_once = asks.each * min(asks.count, alone // asks.each)
        if at_once > free:
            self._make(at_once, device, lambda model: model is not asks.vae)
        return alone

    def _loads(self, device: Any) -> list[Load]:
        found = []
        for patchers, need, least in self._calls:
            there = [one for ref in patchers if (one := ref()) is not None and one.load_device == device]
            if there or not patchers:
                found.append(Load(tuple(there), need, least))
        return found

    def _here(self, model: torch.nn.Module, device: Any, size_of: Callable[[Any], int]) -> int:
        """Bytes of the device that a model takes, whoever has brought it."""
        streamed = self._models.of(model)
        there = sum(tensor.nbytes for _, tensor in all_tensors(model) if tensor.device == device)
        by_us = size_of(model) - self._models.at_home(model)
        return max(there, by_us) + (streamed.stream.held if streamed is not None else 0)


def _unloads_as_needed() -> bool:
    """Whether this host is in a state in which it keeps what there is room for."""
    host = manager()
    states = host.VRAMState
    return not host.ALWAYS_VRAM_OFFLOAD and host.vram_state in (states.NORMAL_VRAM, states.LOW_VRAM)


def _bytes(model: torch.nn.Module) -> int:
    return sum(tensor.nbytes for _, tensor in all_tensors(model))
