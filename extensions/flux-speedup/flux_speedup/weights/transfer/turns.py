"""Whose turn it is on the way to a device: what somebody waits for goes before what comes ahead of its load.

Copies are queued for good, and a device that always finds more of one stream leaves another one waiting until that
is through, whatever was queued first. So whoever can wait queues nothing while somebody cannot.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import torch

_LOOK_S = 0.01


class Turns:
    """Loads under way that somebody waits for, by device. Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked: Counter[torch.device] = Counter()

    @contextlib.contextmanager
    def asked(self, device: torch.device) -> Iterator[None]:
        """In here somebody waits for a load to this device."""
        with self._changed:
            self._asked[device] += 1
        try:
            yield
        finally:
            with self._changed:
                self._asked[device] -= 1
                self._changed.notify_all()

    def let_by(self, device: torch.device, patient: Callable[[], bool]) -> None:
        """Returns once nobody waits for a load to this device; soon, where nobody is `patient` any more."""
        with self._changed:
            while self._asked[device] and patient():
                self._changed.wait(_LOOK_S)


TURNS = Turns()
"""Those of this process."""
