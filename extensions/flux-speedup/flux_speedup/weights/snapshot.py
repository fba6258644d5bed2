"""Looking through weak sets and dictionaries while other threads put something in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def snapshot(look: Callable[[], Iterable[T]]) -> list[T]:
    """All that `look` finds, at one moment. Safe from any thread; waits for nobody.

    What is weak is looked through in Python, and Python ends that where the size changes meanwhile.
    """
    while True:
        try:
            return list(look())
        except RuntimeError:  # another one came: look again
            continue
