"""What one checkpoint leaves of the card, the next one takes: it is not given back in between.

Giving tens of gigabytes back to the driver and asking for them anew takes longer than the rest of a switch. PyTorch
gives them back by itself where it finds no room, and the host counts them as free.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any


class LeftOver:
    """The host's `soft_empty_cache`, which does nothing on a thread that is `switching`."""

    def __init__(self) -> None:
        self._thread = threading.local()

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def soft_empty_cache(*args: Any, **kwargs: Any) -> Any:
            return None if getattr(self._thread, "switching", False) else original(*args, **kwargs)

        return soft_empty_cache

    @contextlib.contextmanager
    def switching(self) -> Iterator[None]:
        self._thread.switching = True
        try:
            yield
        finally:
            self._thread.switching = False
