"""Which models take part in a request: one that raises leaves them in a state that nobody knows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .built import Built


class ModelRequests:
    """Marks the models of the last request as failed where it raised; requests inside requests belong to it."""

    def __init__(self, current: Callable[[], Built | None], failed: Callable[[Built], None]) -> None:
        self._current = current
        self._failed = failed
        self._thread = threading.local()

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `process_images_inner`, which every request runs through by its name."""

        def process_images_inner(*args: Any, **kwargs: Any) -> Any:
            outermost = getattr(self._thread, "used", None) is None
            if outermost:
                self._thread.used = []
                self.uses(self._current())
            try:
                return original(*args, **kwargs)
            except BaseException:
                for built in self._thread.used:
                    built.failed = True
                    self._failed(built)
                raise
            finally:
                if outermost:
                    self._thread.used = None

        return process_images_inner

    def uses(self, built: Built | None) -> None:
        """This model takes part in the request that runs on this thread, if one does."""
        if built is None:
            return
        built.failed = False
        used = getattr(self._thread, "used", None)
        if used is not None:
            used.append(built)
