"""Text encoders that would push another model off the card, in Forge Neo: they stream, and it stays where it is.

They are run once a load, so that all of them come over the bus in either case. The host makes room before it loads;
what such a model needs is what of it cannot stream, a ring, and a little to compute with.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from ...patching.change import Change, Function
from ...weights.named import named_parameters
from ..common.engine import CPU
from ..forge import need, split_models
from ..forge.split_models import is_diffusion
from ..forge.streamed import least, streamable
from ..forge.streamed_pass import Passes

PARTS = {"clip_l", "clip_g", "t5xxl"}
"""What these run: their passes are made again where memory runs out, so that they may begin with less of it."""
NOTHING = 0.1
"""Bytes that a model may have of the card, as the host says it where there are none."""


class OnePass:
    """The host's load that a thread is in: of what, and whether it streams so that nothing has to leave."""

    def __init__(self, manager: str, may: Callable[[Any], bool]) -> None:
        """`may`: whether a patcher's model can be split, whatever it is."""
        self._name = manager
        self._may = may
        self._thread = threading.local()

    def changes(self) -> list[Change]:
        return [
            Function(self._name, "free_memory", self._wrap_free_memory, guarded=False),
            Function(self._name, "LoadedModel.model_load", self._wrap_model_load, guarded=False),
            Function(self._name, "pin_memory", self._wrap_pin, guarded=False),
            *Passes(self._make_room).encodings(),
        ]

    def is_of(self, patcher: Any) -> bool:
        """Whether this thread's load is of that one, in one pass."""
        return getattr(self._thread, "streams", None) is True and self._thread.patcher is patcher

    def wrap_load_models(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_models_gpu(models: Any, memory_required: float = 0, *args: Any, **kwargs: Any) -> Any:
            # What asks for memory of its own is run more than once, or in parts of its input.
            asks = any((memory_required, *args, *kwargs.values()))
            alone = len(models) == 1 and not asks
            before = vars(self._thread).copy()
            self._thread.patcher, self._thread.streams = (next(iter(models)) if alone else None), None
            try:
                return original(models, memory_required, *args, **kwargs)
            finally:
                vars(self._thread).clear()
                vars(self._thread).update(before)

        return load_models_gpu

    def _wrap_free_memory(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def free_memory(memory_required: float, device: Any, *args: Any, **kwargs: Any) -> Any:
            return original(self._wanted(memory_required, device), device, *args, **kwargs)

        return free_memory

    def _wrap_model_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def model_load(loaded: Any, lowvram_model_memory: float = 0, *args: Any, **kwargs: Any) -> Any:
            memory = NOTHING if self.is_of(loaded.model) else lowvram_model_memory
            return original(loaded, memory, *args, **kwargs)

        return model_load

    def _wrap_pin(self, original: Callable[..., bool]) -> Callable[..., bool]:
        def pin_memory(tensor: Any) -> bool:
            """Not what the host leaves in RAM on the way: it would be registered, and at once not be any more."""
            return False if getattr(self._thread, "streams", None) else original(tensor)

        return pin_memory

    def _wanted(self, memory_required: float, device: Any) -> float:
        """What must be free: not for all of a model that can stream where it would push another one out."""
        patcher = getattr(self._thread, "patcher", None)
        if patcher is None or patcher.load_device != device:
            return memory_required
        if self._thread.streams is None:
            short = self._manager().get_free_memory(device) <= memory_required
            self._thread.streams = short and self._pushes_others(device) and self._is_one(patcher)
        if not self._thread.streams:
            return memory_required
        here = {name for name, one in named_parameters(patcher.model) if one.device == device}
        return min(memory_required, least(patcher.model, streamable(patcher.model), here) + need.QUIET)

    def _pushes_others(self, device: Any) -> bool:
        current = self._manager().current_loaded_models
        listed = [each for each in current if each.model is not None and each.device == device]
        return any(each.model_loaded_memory() for each in listed)

    def _is_one(self, patcher: Any) -> bool:
        manager, model = self._manager(), patcher.model
        states = (manager.VRAMState.LOW_VRAM, manager.VRAMState.NORMAL_VRAM)
        if manager.DISABLE_SMART_MEMORY or manager.vram_state not in states or patcher.offload_device != CPU:
            return False
        parts = {name for name, _ in model.named_children()}
        if is_diffusion(model) or not parts <= PARTS or patcher.model_patches_models():
            return False
        at_home = sum(one.nbytes for one in model.parameters() if one.device == CPU)
        return at_home >= split_models.LEAST_MODEL and bool(streamable(model)) and self._may(patcher)

    def _make_room(self, size: int) -> int:
        """An encoding ran out of memory: others leave as the host has them leave. Bytes that are free since."""
        manager = self._manager()
        device = manager.get_torch_device()
        before = manager.get_free_memory(device)
        in_use = [each for each in manager.current_loaded_models if each.currently_used]
        manager.free_memory(before + size, device, in_use)
        return int(manager.get_free_memory(device) - before)

    def _manager(self) -> Any:
        return sys.modules[self._name]
