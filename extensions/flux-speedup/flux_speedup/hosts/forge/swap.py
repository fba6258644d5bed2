"""When a model does not fit on the card: from which point on it is swapped, and how much of it stays there.

`load_models_gpu` compares free memory less the model less `minimum_inference_memory()` with zero, inline. So
that the comparison happens at -1 GB instead, inference memory is said to be that much smaller while it runs,
and the two other readers of the number in there are given the true one back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ...memory import SwapRule


class Margin:
    """How many bytes the estimate of remaining memory may fall below zero before swapping starts."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._thread = threading.local()

    def _in_force(self) -> int:
        return self._size if getattr(self._thread, "loading", False) else 0

    def wrap_minimum_inference_memory(self, original: Callable[[], float]) -> Callable[[], float]:
        def minimum_inference_memory() -> float:
            return original() - self._in_force()

        return minimum_inference_memory

    def wrap_budget(self, rule: SwapRule) -> Callable[[Callable[..., int]], Callable[..., int]]:
        """max(free / divisor, free - reserve), with free memory less what inference really keeps."""

        def make(_original: Callable[..., int]) -> Callable[..., int]:
            def compute(current_free_mem: float, inference_memory: float) -> int:
                return rule.budget(current_free_mem - inference_memory - self._in_force())

            return compute

        return make

    def wrap_load_models_gpu(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_models_gpu(
            models: Any, memory_required: float = 0, hard_memory_preservation: float = 0
        ) -> Any:
            if getattr(self._thread, "loading", False):
                return original(models, memory_required, hard_memory_preservation)
            # What it frees for inference is the larger of this and the smaller number it reads itself.
            kept = max(memory_required, _minimum_inference_memory())
            self._thread.loading = True
            try:
                return original(models, kept, hard_memory_preservation)
            finally:
                self._thread.loading = False

        return load_models_gpu


def _minimum_inference_memory() -> float:
    from backend import memory_management

    return float(memory_management.minimum_inference_memory())
