"""Which units leave when somebody needs room, and which come back when there is room again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .spread import Cost, streamed


@dataclass(frozen=True)
class Shift:
    """Indices of units that are to leave the device, and of units that are to come to stay."""

    leave: tuple[int, ...]
    come: tuple[int, ...]


def leaving(costs: Sequence[Cost], staying: Collection[int], size: int) -> tuple[int, ...]:
    """As few units of those that stay as have `size` bytes together (or all), spread over the order."""
    present = sorted(staying)
    chosen = streamed([costs[index] for index in present], size)
    return tuple(present[at] for at in chosen)


def fitting(costs: Sequence[Cost], staying: Collection[int], budget: int) -> Shift:
    """What to do so that those that stay take at most `budget` bytes, as many as fit, well spread."""
    total = sum(cost.bytes for cost in costs)
    stream = frozenset(streamed(costs, total - budget))
    return Shift(
        tuple(sorted(index for index in staying if index in stream)),
        tuple(index for index in range(len(costs)) if index not in stream and index not in staying),
    )
