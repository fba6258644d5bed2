"""How often ours failed, and when that is too often."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

from .. import shortage

ENOUGH = 3
"""So many failures of a kind, and it is a fault of ours."""
SHORTAGE_S = 600.0
"""Memory that was short is a state of the machine: such failures count together only within this time."""


class Failures:
    """Counted by item, function and kind of exception. `clock`: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)

    def add(self, item: str, function: str, error: Exception) -> int:
        """One more; how many of its kind count now."""
        times = self._times[item, function, type(error).__name__]
        now = self._clock()
        if is_shortage(error):
            times[:] = [each for each in times if now - each < SHORTAGE_S]
        times.append(now)
        return len(times)


def is_shortage(error: Exception) -> bool:
    """Whether memory was short: of the card, of the process, or of the system."""
    return shortage.of_ram(error) or shortage.of_card(error)
