"""The table of loads: the newest checkpoints, moves and unloads. Pure; names go through `safe`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..stats.events import GB, Event, Query
from ..stats.report import way
from .words import NOTHING, card, safe, three_figures, when

NEWEST = 50
KINDS = ("checkpoint", "move", "unload")
# Name and class of every column. Where there is no room for a head, its name is told after a figure.
COLUMNS = (
    ("when", ""),
    ("what", "fsu-what"),
    ("GB", "fsu-number"),
    ("seconds", "fsu-number"),
    ("GB/s", "fsu-number"),
    ("from → to", ""),
    ("kind", ""),
)

if TYPE_CHECKING:
    from ..facts.seen import Seen
UNITS = {"GB": "GB", "seconds": "s", "GB/s": "GB/s"}


def newest(view: Seen) -> list[Event]:
    """The newest loads of all kinds, newest first; each kind is asked for, so that stages push none out."""
    found = [event for kind in KINDS for event in view.events(Query(kind, limit=NEWEST))]
    return sorted(found, key=_ended, reverse=True)[:NEWEST]


def table_card(events: Sequence[Event], now: float) -> str:
    """The table in a region of its own, which scrolls where the page must not."""
    title = f"Loads <span class='fsu-soft'>and unloads, the newest first, {NEWEST} at most</span>"
    if not events:
        return card("Loads", f'<div class="fsu-soft">{NOTHING}</div>')
    return card(
        title,
        '<div class="fsu-scroll" tabindex="0" role="region" aria-label="Loads" data-fsu-key="loads">'
        f'<table class="fsu-loads"><thead>{_row("th", [name for name, _ in COLUMNS])}</thead>'
        f"<tbody>{''.join(_row('td', cells(event, now)) for event in events)}</tbody></table></div>",
    )


def cells(event: Event, now: float) -> list[str]:
    """An event as HTML, in the order of COLUMNS."""
    return [
        when(event.at, now),
        safe(event.what),
        figure(event.bytes / GB) if event.bytes else "",
        figure(event.seconds),
        speed(event),
        safe(way(event).replace("->", "→")),
        safe(event.kind),
    ]


def figure(value: float) -> str:
    """A number with three significant digits; "?" for what is no number."""
    rounded = three_figures(value)
    return "?" if rounded is None else f"{rounded:g}"


def speed(event: Event) -> str:
    """GB/s; nothing for an unload, which moves nothing: seconds and bytes make no speed there."""
    return "" if event.rate is None or event.kind == "unload" else figure(event.rate)


def _row(tag: str, shown: Sequence[str]) -> str:
    cells = "".join(
        f'<{tag} class="{css}"{_unit(name) if text and tag == "td" else ""}>{text}</{tag}>'
        for text, (name, css) in zip(shown, COLUMNS, strict=True)
    )
    return f"<tr>{cells}</tr>"


def _unit(name: str) -> str:
    return f' data-unit="{UNITS[name]}"' if name in UNITS else ""


def _ended(event: Event) -> float:
    return event.at if math.isfinite(event.at) else 0.0
