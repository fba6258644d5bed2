"""The table of loads: the newest checkpoints, moves and unloads as rows. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..stats.events import Event
from ..stats.report import printable, way
from ..view import View
from .words import NOTHING, gigabytes, three_figures, when

NEWEST = 50
KINDS = ("checkpoint", "move", "unload")
HEADERS = ("when", "what", "GB", "seconds", "GB/s", "from → to", "kind")
TYPES = ("str", "str", "number", "number", "number", "str", "str")

Cell = str | float | None


def newest(view: View) -> list[Event]:
    """The newest loads of all kinds, newest first; each kind is asked for, so that stages push none out."""
    found = [event for kind in KINDS for event in view.events(kind=kind, limit=NEWEST)]
    return sorted(found, key=_ended, reverse=True)[:NEWEST]


def rows(events: Sequence[Event], now: float) -> list[list[Cell]]:
    """One row an event, in the order of HEADERS. An empty table has one row that says so."""
    if not events:
        return [["", NOTHING, None, None, None, "", ""]]
    return [
        [
            when(event.at, now),
            printable(event.what),
            gigabytes(event),
            three_figures(event.seconds),
            speed(event),
            way(event).replace("->", "→"),
            printable(event.kind),
        ]
        for event in events
    ]


def speed(event: Event) -> float | None:
    """GB/s; None for an unload, which moves nothing: seconds and bytes make no speed there."""
    return None if event.rate is None or event.kind == "unload" else three_figures(event.rate)


def _ended(event: Event) -> float:
    return event.at if math.isfinite(event.at) else 0.0
