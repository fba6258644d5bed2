"""Which pages of mappings were written to, asked part by part.

To look takes milliseconds a GB: so only what is asked for is looked at, where the kernel can do that; elsewhere all
of a mapping is, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from .written import PAGE, Ranges, by_pagemap, by_scan, written_ranges

_GAP = 1 << 20
"""Bytes between two parts that are looked at as one."""


class Looks:
    """For one load."""

    def __init__(
        self,
        ways: Sequence[Callable[[int, int], Ranges]] = (by_scan, by_pagemap),
        ask: Callable[[int, int], Ranges | None] = written_ranges,
    ) -> None:
        """`ways`: to look at [start, end) alone; one that is not known here raises OSError. `ask`: if none is."""
        self._ways = ways
        self._ask = ask
        self._whole: dict[int, Ranges | None] = {}

    def among(self, parts: Iterable[tuple[int, int]], address: int, length: int) -> Ranges | None:
        """What was written among these [start, end) of a mapping; what else was, may be there, too."""
        if address not in self._whole:
            runs = _runs(parts)
            for way in self._ways:
                with suppress(OSError, ValueError, ImportError):
                    return [each for run in runs for each in way(*run)]
            self._whole[address] = self._ask(address, length)
        return self._whole[address]


def _runs(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pages of these, in order; near ones as one."""
    runs: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        start, end = start // PAGE * PAGE, -(-end // PAGE) * PAGE
        if runs and start <= runs[-1][1] + _GAP:
            start, end = runs[-1][0], max(end, runs.pop()[1])
        runs.append((start, end))
    return runs
