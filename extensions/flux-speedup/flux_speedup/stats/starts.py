"""How long the WebUI takes to start, before and after: from starts of this machine that were recorded. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .report import seconds


@dataclass(frozen=True)
class InForce:
    """What was in force during a start; kept as text in the detail of its "total" event."""

    left_out: int
    fast_callbacks: bool
    lazy_apps: bool
    page: bool

    def text(self) -> str:
        """As "36 scripts left out; fast callbacks; apps when needed; with page"."""
        parts = [
            f"{self.left_out} scripts left out",
            "fast callbacks" if self.fast_callbacks else "the WebUI's callbacks",
            "apps when needed" if self.lazy_apps else "the WebUI's apps",
            "with page" if self.page else "headless",
        ]
        return "; ".join(parts)

    def told(self) -> str:
        """What made the start faster, for people: "36 scripts left out, fast callbacks"; "" where nothing did."""
        parts = [
            f"{self.left_out} scripts left out" if self.left_out else "",
            "fast callbacks" if self.fast_callbacks else "",
            "apps when needed" if self.lazy_apps else "",
        ]
        return ", ".join(part for part in parts if part)

    @classmethod
    def parse(cls, text: str) -> InForce | None:
        """The reverse of `text`; None for what is none."""
        parts = text.split("; ")
        count = parts[0].split(" ", 1)[0]
        if len(parts) != 4 or not count.isdecimal() or not parts[0].endswith("scripts left out"):
            return None
        return cls(
            int(count), parts[1] == "fast callbacks", parts[2] == "apps when needed", parts[3] == "with page"
        )


@dataclass(frozen=True)
class Start:
    """One start of the WebUI: seconds as it timed itself; what: what was in force, "" where nothing was."""

    at: float
    seconds: float
    what: str


def before_and_after(starts: Sequence[Start]) -> str:
    """The median of the starts without us and the newest with us: "17.6 s before, 6.2 s now"."""
    without = [one.seconds for one in starts if not one.what and math.isfinite(one.seconds)]
    ours = next((one.seconds for one in starts if one.what), None)
    said = []
    if without:
        said.append(f"{seconds(_middle(without))} before")
    if ours is not None:
        said.append(f"{seconds(ours)} now")
    if without and ours is None:
        return said[0]
    return ", ".join(said) if without else ", ".join([*said, "no start without us was seen"]) if said else ""


def _middle(some: list[float]) -> float:
    # The module statistics imports too much for a preload.
    few = sorted(some)
    half = len(few) // 2
    return (few[half] + few[-half - 1]) / 2
