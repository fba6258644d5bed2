"""One image request and where its seconds went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .events import rate_gb_s

# In the order in which a bar shows them. "load": files to tensors; "move": to the device; "other": the rest.
PARTS = ("load", "move", "unload", "text encoding", "sampling", "vae", "adetailer", "other")


@dataclass(frozen=True)
class Steps:
    """The iterations of a sampler, as it counts them.

    seconds: of one, between two of the sampler's own reports, as the device reached them; of a single iteration all
    that it took. waited: of these, those in which computing stood still until weights were there (None: not
    known). bytes: of weights that came during one because they do not stay on the device.
    """

    count: int
    seconds: float
    waited: float | None = None
    bytes: int = 0

    @property
    def rate(self) -> float | None:
        """GB/s at which those bytes came, over the whole iteration."""
        return rate_gb_s(self.bytes, self.seconds)

    @classmethod
    def together(cls, parts: Sequence[Steps]) -> Steps | None:
        """The mean iteration of several samplings; None of none."""
        count = sum(each.count for each in parts)
        if not count:
            return None
        waited = [each.waited * each.count for each in parts if each.waited is not None]
        return cls(
            count,
            sum(each.seconds * each.count for each in parts) / count,
            sum(waited) / count if len(waited) == len(parts) else None,
            round(sum(each.bytes * each.count for each in parts) / count),
        )


@dataclass(frozen=True)
class Pass:
    """One pass inside a request: "txt2img", "img2img", "hires", "ADetailer 1"; seconds by part, as in PARTS.

    steps: None where nothing was sampled.
    """

    name: str
    seconds: float
    parts: Mapping[str, float]
    steps: Steps | None = None


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
