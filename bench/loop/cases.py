"""The cards and what is done on them."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True)
class Case:
    """A card (bytes; None: as it is), what inference keeps (a share of it, or bytes), and what is done on it."""

    name: str
    card: int | None
    kept: float
    plan: bool = False
    steps: bool = False
    pin: bool = False


CASES = (
    Case("card as it is, 60 % kept", None, 0.60),
    Case("card as it is, 25 % kept", None, 0.25, plan=True),
    Case("steps, card as it is, 25 % kept", None, 0.25, steps=True),
    Case("24 GiB, 1 GiB kept", 24 * GIB, GIB),
    Case("12 GiB, swapping from pinned RAM", 12 * GIB, GIB, pin=True),
)
# What stands for those cards where the models are tiny (transformer 33 MB, text encoders 140 to 216 MB): the
# first evicts, the second keeps everything, the last swaps.
TINY_CASES = (
    Case("card as it is, 60 % kept", 400_000_000, 0.60),
    Case("card as it is, 25 % kept", 500_000_000, 0.25, plan=True),
    Case("steps, card as it is, 25 % kept", 500_000_000, 0.25, steps=True),
    Case("a card that nothing fits on", 36_000_000, 8_000_000),
)
