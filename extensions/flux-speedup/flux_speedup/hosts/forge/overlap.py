"""While the text encoders compute, the transformer's bytes come to the card, where there is room for both.

The host asks for the text encoders, encodes, and asks for the transformer. Between the first and the last its
weights are on their way, in memory that the host's arithmetic counts as free until it loads them: so it decides
whatever it would decide without us. Where somebody else needs that memory first, they go.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Collection
from typing import Any

import torch

from ...patching.change import Call, Change, Function
from ...stats.report import size as in_words
from ...weights.errors import WeightsError
from ...weights.residency.placement import Placement
from ..common.engine import CPU

MANAGER = "backend.memory_management"
PROCESSING = "modules.processing"
MARGIN = 2 << 30
"""Bytes that stay free beside what comes and what the host keeps for inference."""
log = logging.getLogger("flux_speedup")


class Overlap:
    """The wrapped functions of one process. The host makes one image at a time; other threads only look."""

    def __init__(self, placement: Placement, kinds: Collection[str]) -> None:
        """`kinds`: of devices that compute and copy at once."""
        self._placement = placement
        self._kinds = kinds
        self._coming: torch.nn.Module | None = None
        self._asked_for = False
        self._requests = threading.local()

    def changes(self) -> list[Change]:
        return [
            Call(lambda: self._drop),
            Function(MANAGER, "load_models_gpu", self._wrap_load_models),
            Function(MANAGER, "free_memory", self._wrap_free_memory),
            Function(MANAGER, "get_free_memory", self._wrap_get_free_memory),
            Function(PROCESSING, "process_images_inner", self._wrap_request),
        ]

    def _wrap_load_models(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_models_gpu(models: Any, *args: Any, **kwargs: Any) -> Any:
            if self._asked_for:
                return original(models, *args, **kwargs)
            self._asked_for = any(patcher.model is self._coming for patcher in models)
            try:
                done = original(models, *args, **kwargs)
            finally:
                if self._asked_for:
                    self._asked_for = False
                    self._drop()
            if self._coming is None and self._depth():
                self._begin({id(patcher.model) for patcher in models})
            return done

        return load_models_gpu

    def _wrap_free_memory(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def free_memory(memory_required: Any, device: Any, *args: Any, **kwargs: Any) -> Any:
            """What is on its way to nobody who asks now goes before anything that is there."""
            everything = kwargs.get("free_all", args[1] if len(args) > 1 else False)
            waits = self._coming is not None and not self._asked_for
            if waits and (everything or _manager().get_free_memory(device) <= memory_required):
                self._drop()
            return original(memory_required, device, *args, **kwargs)

        return free_memory

    def _wrap_get_free_memory(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
            found = original(dev, torch_free_too)
            taken = self._taken(dev) if self._asked_for else 0
            if not taken:
                return found
            return (found[0] + taken, found[1]) if torch_free_too else found + taken

        return get_free_memory

    def _wrap_request(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def process_images_inner(*args: Any, **kwargs: Any) -> Any:
            self._requests.depth = self._depth() + 1
            try:
                return original(*args, **kwargs)
            finally:
                self._requests.depth -= 1
                if not self._depth():
                    self._drop()

        return process_images_inner

    def _depth(self) -> int:
        """Requests inside each other on this thread."""
        return int(getattr(self._requests, "depth", 0))

    def _begin(self, loaded: set[int]) -> None:
        """The transformer of the model whose text encoders were loaded just now, if there is room for it."""
        objects = getattr(sys.modules["modules.sd_models"].model_data.sd_model, "forge_objects", None)
        if objects is None or id(objects.clip.patcher.model) not in loaded:
            return
        model, device = objects.unet.model, objects.unet.load_device
        size = sum(tensor.nbytes for tensor in model.parameters() if tensor.device == CPU)
        if not self._may(model, device) or self._spare(device) < size:
            return
        try:
            coming = self._placement.begin(model, device)
        except WeightsError as error:
            log.info("the transformer does not come before it is asked for (%s)", error)
            return
        if coming:
            self._coming = model
            log.debug("transformer: %s are on their way while the text is encoded", in_words(coming))

    def _may(self, model: torch.nn.Module, device: torch.device) -> bool:
        manager = _manager()
        states = manager.VRAMState
        there = any(loaded.model.model is model for loaded in manager.current_loaded_models)
        whole = not manager.ALWAYS_VRAM_OFFLOAD and manager.vram_state in (
            states.NORMAL_VRAM,
            states.HIGH_VRAM,
        )
        return whole and not there and device != CPU and device.type in self._kinds

    @staticmethod
    def _spare(device: torch.device) -> int:
        manager = _manager()
        return int(manager.get_free_memory(device) - manager.minimum_inference_memory()) - MARGIN

    def _taken(self, device: Any) -> int:
        coming = self._coming
        if coming is None:
            return 0
        device = _manager().get_torch_device() if device is None else device
        return self._placement.of(coming).coming(device)

    def _drop(self) -> None:
        """What was not asked for goes; what a load has taken over stays."""
        coming, self._coming = self._coming, None
        if coming is not None:
            self._placement.of(coming).stop()


def _manager() -> Any:
    return sys.modules[MANAGER]
