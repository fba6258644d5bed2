"""What one checkpoint leaves of the card, the next one takes: it is not given back in between.

Giving tens of gigabytes back to the driver and asking for them anew takes longer than the rest of a switch. PyTorch
gives them back by itself where it finds no room, and the host counts them as free.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch


class LeftOver:
    """The host's `soft_empty_cache`. It does nothing on a thread that is `switching`; nor, where the card is roomy,
    at the begin of the request that has switched: there the host empties the cache once more, before it loads.
    """

    def __init__(self, roomy: Callable[[], bool] | None = None) -> None:
        """`roomy`: whether the next checkpoint fits beside what is left over, in whatever pieces that is."""
        self._roomy = roomy or _roomy
        self._thread = threading.local()

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def soft_empty_cache(*args: Any, **kwargs: Any) -> Any:
            begins, self._thread.begins = getattr(self._thread, "begins", False), False
            kept = getattr(self._thread, "switching", False) or (begins and self._roomy())
            return None if kept else original(*args, **kwargs)

        return soft_empty_cache

    def wrap_request(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `process_images_inner`."""

        def process_images_inner(*args: Any, **kwargs: Any) -> Any:
            self._thread.begins = getattr(self._thread, "switched", False)
            self._thread.switched = False
            try:
                return original(*args, **kwargs)
            finally:
                self._thread.begins = False

        return process_images_inner

    @contextlib.contextmanager
    def switching(self) -> Iterator[None]:
        self._thread.switching = True
        try:
            yield
            self._thread.switched = True
        finally:
            self._thread.switching = False


def _roomy() -> bool:
    cuda = torch.cuda
    if not cuda.is_initialized():
        return False
    return bool(cuda.mem_get_info()[0] >= cuda.memory_reserved() - cuda.memory_allocated())
