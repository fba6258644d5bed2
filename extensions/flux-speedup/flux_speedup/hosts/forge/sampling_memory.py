"""Free memory, as the host asks for it before a step: as it would be if the host had loaded the model alone.

It computes the prompt and its negative in one batch where there is room for both, and that shows in the image's
last bits; and it warns of less than 1.5 GiB. Where a model is split, more of it stays than with the host alone, so
less is free; for the batch there is room all the same: what stays gives way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ...patching.change import Change, Function
from ...weights.residency.signature import taken
from .need import MANAGER, with_host_alone
from .need import manager as host_manager
from .split_models import SplitModels, is_diffusion
from .streamed import Streamed

SAMPLING = "backend.sampling.sampling_function"


class Asking:
    """One question a batch is answered by `alone`, of the device asked for and what is free; others as they are."""

    def __init__(self, alone: Callable[[Any, int], int]) -> None:
        self._answer = alone
        self._thread = threading.local()

    def changes(self) -> list[Change]:
        # Asked at every step: nothing stands around them, and nothing in them can fail.
        return [
            Function(SAMPLING, "calc_cond_uncond_batch", self._wrap_calculate, guarded=False),
            Function(MANAGER, "get_free_memory", self._wrap_free, guarded=False),
        ]

    def around_pass(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A pass of the model: after it the host asks for what is left of its conditions."""

        def one_pass(*args: Any, **kwargs: Any) -> Any:
            asks = getattr(self._thread, "asks", None)
            self._thread.asks = None
            try:
                return original(*args, **kwargs)
            finally:
                self._thread.asks = False if asks is not None else None

        return one_pass

    def _wrap_calculate(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def calc_cond_uncond_batch(*args: Any, **kwargs: Any) -> Any:
            before = getattr(self._thread, "asks", None)
            self._thread.asks = False  # None: outside; False: not yet; True: it has asked
            try:
                return original(*args, **kwargs)
            finally:
                self._thread.asks = before

        return calc_cond_uncond_batch

    def _wrap_free(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
            free = original(dev, torch_free_too)
            if getattr(self._thread, "asks", None) is not False or torch_free_too:
                return free
            self._thread.asks = True
            return self._answer(dev if dev is not None else host_manager().get_torch_device(), int(free))

        return get_free_memory


class SamplingMemory(Asking):
    """As Forge would leave it."""

    def __init__(self, models: SplitModels) -> None:
        super().__init__(self._with_forge)
        self._models = models

    def _with_forge(self, device: Any, free: int) -> int:
        streamed, there = self._split(device), free + taken(device)
        return there if streamed is None else self._alone(streamed, there)

    def _split(self, device: Any) -> Streamed | None:
        for model in self._models.all():
            streamed = self._models.of(model)
            if streamed is not None and is_diffusion(model) and streamed.least:
                return streamed if device == streamed.device else None
        return None

    @staticmethod
    def _alone(streamed: Streamed, free: int) -> int:
        space = free + streamed.resident + streamed.stream.held
        size = streamed.always_bytes + streamed.split.whole
        budget = host_manager().compute_model_gpu_memory_when_using_cpu_swap
        return with_host_alone(space, size, streamed.least, budget)
