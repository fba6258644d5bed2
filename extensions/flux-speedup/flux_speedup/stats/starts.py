"""How long the WebUI takes to start, before and after: from starts of this machine that were recorded. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .events import STARTUP, WHOLE, Event
from .report import seconds

NEWEST = 5


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

    @property
    def changed(self) -> bool:
        """Whether anything made this start faster than the WebUI's own."""
        return self.left_out > 0 or self.fast_callbacks or self.lazy_apps


@dataclass(frozen=True)
class Starts:
    """Seconds of a start, medians of the newest few; None where there was no such start."""

    before: float | None = None
    after: float | None = None

    def sentence(self) -> str:
        """As "start 18.7 s -> 11.6 s", or "" while one of the two has not been seen."""
        if self.before is None or self.after is None:
            return ""
        return f"start {seconds(self.before)} -> {seconds(self.after)}"


def compare(events: Iterable[Event], *, page: bool) -> Starts:
    """Starts as the WebUI is by itself, and those with as much in force as the newest start.

    events: startup events in any order. page: compare starts with a page, else headless ones.
    """
    seen = [
        (event, InForce.parse(event.detail)) for event in sorted(events, key=lambda e: e.at, reverse=True)
    ]
    starts = [
        (event.seconds, was)
        for event, was in seen
        if event.kind == STARTUP and event.what == WHOLE and was is not None and was.page is page
    ]
    plain = [seconds for seconds, was in starts if not was.changed]
    newest = next((was for _, was in starts if was.changed), None)
    faster = [seconds for seconds, was in starts if was == newest]
    return Starts(_middle(plain), _middle(faster))


def _middle(seconds: list[float]) -> float | None:
    # The module statistics imports too much for a preload.
    few = sorted(seconds[:NEWEST])
    half = len(few) // 2
    return (few[half] + few[-half - 1]) / 2 if few else None
