"""What of the machine this process may use: RAM, by every limit that holds for it, and processor cores.

`available` and `available_and_total` answer for everybody. `HELD` is the ledger of what this process holds so
that nobody can evict it; whoever registers or pins memory takes it from there first.
"""

from __future__ import annotations

from .free import Free
from .held import HALF, HELD, NOTHING, PLENTY, SHORT, Held, Hold, Rule, available, available_and_total
from .process import anonymous, cores

__all__ = [
    "HALF",
    "HELD",
    "NOTHING",
    "PLENTY",
    "SHORT",
    "Free",
    "Held",
    "Hold",
    "Rule",
    "anonymous",
    "available",
    "available_and_total",
    "cores",
]
