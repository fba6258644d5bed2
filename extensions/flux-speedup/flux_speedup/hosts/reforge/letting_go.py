"""How reForge lets a checkpoint go, without looking through memory ten times.

It takes the model to pieces, looks through everything in memory for large tensors to count them in a line of its
log, and has garbage collected up to five times in a row, each time through all objects there are. One collection
finds what can be found. What is on the device by us goes with the pieces.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...patching.change import Change, Function

MODELS = "modules.sd_models"


def changes() -> list[Change]:
    """Of its three functions, and of the two of `gc` that they call again and again."""
    rounds = _Rounds()
    return [
        Function(MODELS, "unload_first_loaded_model", rounds.wrap_unload),
        Function(MODELS, "complete_model_teardown", rounds.wrap_teardown),
        Function(MODELS, "force_memory_deallocation", rounds.wrap_deallocation),
        Function("gc", "collect", rounds.wrap_collect),
        Function("gc", "get_objects", rounds.wrap_get_objects),
    ]


class _Rounds:
    """By thread: how many collections the function that runs may still have. Other threads are as they were."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @property
    def _left(self) -> list[int]:
        found: list[int] = self._thread.__dict__.setdefault("left", [])
        return found

    @contextmanager
    def _at_most(self, count: int) -> Iterator[None]:
        self._left.append(count)
        try:
            yield
        finally:
            self._left.pop()

    def wrap_unload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def unload_first_loaded_model(*args: Any, **kwargs: Any) -> Any:
            with self._at_most(1):
                return original(*args, **kwargs)

        return unload_first_loaded_model

    def wrap_teardown(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def complete_model_teardown(model: Any, *args: Any, **kwargs: Any) -> Any:
            # Whoever calls it still holds the model, and collects himself once he does not.
            with self._at_most(0 if self._left else 1):
                return original(model, *args, **kwargs)

        return complete_model_teardown

    def wrap_deallocation(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def force_memory_deallocation(*args: Any, **kwargs: Any) -> Any:
            with self._at_most(1):
                return original(*args, **kwargs)

        return force_memory_deallocation

    def wrap_collect(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def collect(*args: Any, **kwargs: Any) -> Any:
            left = self._left
            if left and not left[-1]:
                return 0
            if left:
                left[-1] -= 1
            return original(*args, **kwargs)

        return collect

    def wrap_get_objects(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def get_objects(*args: Any, **kwargs: Any) -> Any:
            return [] if self._left else original(*args, **kwargs)

        return get_objects
