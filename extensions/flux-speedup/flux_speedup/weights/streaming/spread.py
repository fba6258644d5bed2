"""Which units stay on the device: spread over the order in which they run, so that the bus never waits.

A unit is streamed when the bytes streamed so far are behind the share of the round's computing that is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Of one unit: bytes on the device, and seconds of computing (0 until measured)."""

    bytes: int
    seconds: float = 0.0


def streamed(costs: Sequence[Cost], least: int) -> list[int]:
    """Indices, in order, of units that have at least `least` bytes together (or all), spread over the order.

    By seconds where every one was measured, else by bytes.
    """
    if least <= 0:
        return []
    measured = all(cost.seconds > 0 for cost in costs)
    weights = [cost.seconds if measured else float(cost.bytes) for cost in costs]
    total = sum(weights)
    chosen: set[int] = set()
    done, over = 0, 0.0
    for index, (cost, weight) in enumerate(zip(costs, weights, strict=True)):
        over += weight
        if total and done + cost.bytes / 2 <= least * over / total:
            chosen.add(index)
            done += cost.bytes
    _fill_up(chosen, costs, least - done)
    _thin_out(chosen, costs, least)
    return sorted(chosen)


def _fill_up(chosen: set[int], costs: Sequence[Cost], missing: int) -> None:
    """The smallest unit that is enough, or the largest and again."""
    left = sorted((cost.bytes, index) for index, cost in enumerate(costs) if index not in chosen)
    while missing > 0 and left:
        place = next((at for at, (size, _) in enumerate(left) if size >= missing), len(left) - 1)
        size, index = left.pop(place)
        chosen.add(index)
        missing -= size


def _thin_out(chosen: set[int], costs: Sequence[Cost], least: int) -> None:
    spare = sum(costs[index].bytes for index in chosen) - least
    for index in sorted(chosen, key=lambda one: -costs[one].bytes):
        if costs[index].bytes <= spare:
            chosen.remove(index)
            spare -= costs[index].bytes
