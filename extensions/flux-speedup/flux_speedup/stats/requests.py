"""One image request and where its seconds went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# In the order in which a bar shows them. "load": files to tensors; "move": to the device; "other": the rest.
PARTS = ("load", "move", "unload", "text encoding", "sampling", "vae", "adetailer", "other")


@dataclass(frozen=True)
class Pass:
    """One pass inside a request: "txt2img", "img2img", "hires", "ADetailer 1"; seconds by part, as in PARTS."""

    name: str
    seconds: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class Request:
    """One request of a user.

    number: counts up within a process. kind: "txt2img", "img2img" or "extras". via: "page" or "API".
    began: seconds since the epoch. seconds: the whole, so far where it still runs. parts: seconds by part, in the
    order of PARTS, together `seconds`. passes: in the order in which they ran. bytes: moved to the device.
    here: made by this process, and not by another one or before the last start.
    """

    number: int
    kind: str
    via: str
    began: float
    seconds: float
    parts: Mapping[str, float]
    passes: tuple[Pass, ...] = ()
    bytes: int = 0
    images: int = 0
    running: bool = False
    failed: bool = False
    here: bool = True

    @property
    def key(self) -> str:
        """What tells it from all others: numbers count up in each process anew."""
        return f"{self.began:.6f}-{self.number}"
