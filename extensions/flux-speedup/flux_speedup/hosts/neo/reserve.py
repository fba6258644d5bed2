"""VRAM that Forge Neo keeps for inference: as much as the tier says, where that is free without splitting a model.

What the host would keep whole it keeps whole, of what does not fit it keeps the same part, and it chooses the same
dtype, as if it kept its own number: only other models make room for more. While somebody samples it keeps its own
number: what is kept for inference is in use then, and the model that would make room for more is the one that runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from ...patching.change import Call, Change, Function, whatever_is_there

# By how much the host takes a model to be larger than it is when it makes room for it.
MARGIN = 1.1
SAMPLERS = "modules.sd_samplers_common"


class Reserve:
    """`inference`: bytes of the card that are to stay free."""

    def __init__(self, manager: Any, inference: int) -> None:
        self._manager = manager
        self._inference = inference
        self._own: Callable[[], float] = lambda: manager.extra_reserved_memory()  # not there in every Neo
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._sampling = 0
        """How many do, on whatever thread: a preview is decoded on another one."""

    def changes(self) -> list[Change]:
        name = self._manager.__name__
        weights = Function(name, "maximum_vram_for_weights", self._wrap_for_weights)
        return [
            Function(name, "extra_reserved_memory", self._wrap_reserved),
            Function(name, "load_models_gpu", self._wrap_load, guarded=False),
            Function(SAMPLERS, "Sampler.launch_sampling", self._wrap_sampling, guarded=False),
            Call(lambda: whatever_is_there([weights])),
        ]

    def _wrap_reserved(self, original: Callable[[], float]) -> Callable[[], float]:
        self._own = original
        least = self._inference - (self._manager.minimum_inference_memory() - original())

        def extra_reserved_memory() -> float:
            """More where the user's flag or option says so."""
            if self._sampling:
                return original()
            most: float | None = getattr(self._thread, "most", None)
            return max(original(), least if most is None else min(least, most))

        return extra_reserved_memory

    def _wrap_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_models_gpu(
            models: Any,
            memory_required: float = 0,
            force_patch_weights: bool = False,
            minimum_memory_required: float | None = None,
            *rest: Any,
            **named: Any,
        ) -> Any:
            needed = memory_required if minimum_memory_required is None else minimum_memory_required
            before = getattr(self._thread, "most", None)
            self._thread.most = self._left(models, needed)
            try:
                return original(
                    models, memory_required, force_patch_weights, minimum_memory_required, *rest, **named
                )
            finally:
                self._thread.most = before

        return load_models_gpu

    def _wrap_sampling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def launch_sampling(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self._sampling += 1
            try:
                return original(*args, **kwargs)
            finally:
                with self._lock:
                    self._sampling -= 1

        return launch_sampling

    def _left(self, models: Iterable[Any], needed: float) -> float:
        """What may be kept free besides what a pass needs, with all of these models on the card."""
        manager, card = self._manager, self._manager.get_torch_device()
        listed = [each for each in list(manager.current_loaded_models) if each.model is not None]
        there = sum(each.model_loaded_memory() for each in listed if each.device == card)
        size = sum(patcher.model_size() for patcher in set(models) if patcher.load_device == card)
        fixed = manager.minimum_inference_memory() - manager.extra_reserved_memory()
        free: float = manager.get_free_memory(card)
        return free + there - size * MARGIN - max(needed, fixed)

    def _wrap_for_weights(self, original: Callable[..., float]) -> Callable[..., float]:
        def maximum_vram_for_weights(*args: Any, **kwargs: Any) -> float:
            return original(*args, **kwargs) + self._manager.extra_reserved_memory() - self._own()

        return maximum_vram_for_weights
