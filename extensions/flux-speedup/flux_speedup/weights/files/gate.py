"""When background work must wait: for loads, and for computing that wants the same cores."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Gate:
    """Asked before every piece of background work. Nests; safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._loads = self._computing = 0

    def loading(self) -> contextlib.AbstractContextManager[None]:
        """Nothing passes in here, but for the piece under way: loads read the same disk."""
        return self._counted("_loads")

    def computing(self) -> contextlib.AbstractContextManager[None]:
        """Nothing passes in here that takes a core."""
        return self._counted("_computing")

    def wait(self, given_up: Callable[[], bool]) -> None:
        """Return when work may go on, or at once where it is given up (see `look_again`)."""
        with self._changed:
            self._changed.wait_for(lambda: given_up() or not (self._loads or self._computing))

    def wait_for_loads(self, given_up: Callable[[], bool]) -> None:
        """As `wait`, for what takes no core, or is waited for."""
        with self._changed:
            self._changed.wait_for(lambda: given_up() or not self._loads)

    def look_again(self) -> None:
        """What `given_up` answers has changed."""
        with self._changed:
            self._changed.notify_all()

    @contextlib.contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        self._add(name, 1)
        try:
            yield
        finally:
            self._add(name, -1)

    def _add(self, name: str, count: int) -> None:
        with self._changed:
            setattr(self, name, getattr(self, name) + count)
            self._changed.notify_all()
