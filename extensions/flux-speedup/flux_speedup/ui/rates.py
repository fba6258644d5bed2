"""Loads over time as pictures: speed against this machine's limits, seconds, bytes; cold or warm. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from ..stats.events import Event
from ..stats.machine import Machine
from ..stats.report import seconds, sentence, size
from . import svg
from .words import card, counted, gb_s, share, when

NEWEST = 60
BUS = "bus"
KINDS = ("checkpoint", "move")
SPEED_PX, STRIP_PX, TOP_PX = 200, 56, 14
# The radius of the biggest load's dot, where there is room and where there are many.
DOT_PX, CROWD, CROWDED_DOT_PX = 12, 24, 8
# Sources by temperature; what came from elsewhere, or from nobody knows where, is neither.
COLD, WARM = ("disk",), ("page cache", "RAM")


def chart_card(events: Sequence[Event], machine: Machine | None, now: float) -> str:
    """The pictures of the loads among `events` (newest first)."""
    shown = loads(events)
    if not shown:
        return card("Loads over time", '<div class="fsu-soft">Nothing was loaded yet.</div>')
    title = (
        f"Loads over time <span class='fsu-soft'>the last {counted(len(shown), 'load')}, newest right</span>"
    )
    longest = max(event.seconds for event in shown)
    biggest = max(event.bytes for event in shown)
    body = (
        speeds(shown, machine, now)
        + strip("seconds", shown, now, lambda event: share(event.seconds, longest), seconds(longest))
        + strip("bytes", shown, now, lambda event: share(event.bytes, biggest), size(biggest))
        + hours(shown, now)
        + legend(shown, machine)
    )
    return card(title, body)


def loads(events: Sequence[Event]) -> list[Event]:
    """What has a speed, oldest first."""
    return [event for event in events if event.kind in KINDS and event.rate is not None][:NEWEST][::-1]


def limits(machine: Machine | None) -> list[tuple[str, float]]:
    """(name, GB/s) of the lines to draw, highest first."""
    named = ((BUS, machine.bus), ("disk", machine.disk)) if machine is not None else ()
    found = [(name, value) for name, value in named if value is not None and 0 < value < math.inf]
    return sorted(found, key=lambda one: one[1], reverse=True)


def top_of_scale(rates: Sequence[float], lines: Sequence[tuple[str, float]]) -> float:
    """GB/s at the upper edge: a tiny load with a freak speed must not press all others flat.

    Only the bus tells what is a freak: loads from RAM are faster than the disk as a matter of course.
    """
    fastest = max(rates)
    bus = dict(lines).get(BUS)
    if bus is not None:
        fastest = min(fastest, 1.5 * bus)
    return 1.08 * max(fastest, *(value for _, value in lines), 0.0)


def ticks(top: float) -> list[float]:
    """Two to five round values up to `top`, from 0."""
    if not 0 < top < math.inf:
        return [0.0]
    step = 10.0 ** math.floor(math.log10(top))
    step = next(step * by for by in (0.2, 0.5, 1.0, 2.0) if top / (step * by) < 6)
    return [step * i for i in range(int(top / step) + 1)]


def speeds(shown: Sequence[Event], machine: Machine | None, now: float) -> str:
    """GB/s of every load, as dots whose area is their bytes, and the machine's limits as lines."""
    lines = limits(machine)
    rates = [event.rate or 0.0 for event in shown]
    top = top_of_scale(rates, lines)
    biggest = max(event.bytes for event in shown)
    most = DOT_PX if len(shown) <= CROWD else CROWDED_DOT_PX

    def y(rate: float) -> float:
        return TOP_PX + (SPEED_PX - TOP_PX) * (1 - share(rate, top))

    grid = "".join(svg.across(y(tick), "fsu-grid") for tick in ticks(top))
    dots = "".join(
        svg.dot(
            place(i, shown),
            y(rate),
            max(2.5, most * math.sqrt(share(event.bytes, biggest))),
            css(event),
            told(event, now),
        )
        for i, (event, rate) in enumerate(zip(shown, rates, strict=True))
    )
    label = f"Speed of {counted(len(shown), 'load')}, {gb_s(min(rates))} to {gb_s(max(rates))}; " + (
        ", ".join(f"{name} {gb_s(value)}" for name, value in lines) or "this machine was not measured"
    )
    axis = "".join(svg.text(80, y(tick) + 4, f"{tick:g}", "fsu-axis", "end") for tick in ticks(top))
    high = SPEED_PX + 8
    body = svg.picture(
        label, high, grid + "".join(svg.across(y(value), "fsu-limit") for _, value in lines) + dots
    )
    return (
        '<div class="fsu-soft fsu-small">GB/s</div>'
        f'<div class="fsu-plot"><svg aria-hidden="true" height="{high}">{axis}</svg>{body}'
        f'<svg aria-hidden="true" height="{high}">{"".join(_names(lines, y))}</svg></div>'
    )


def _names(lines: Sequence[tuple[str, float]], y: Callable[[float], float]) -> Iterator[str]:
    lowest = -math.inf
    for name, value in lines:
        # Two limits close together: the lower one's name moves down.
        lowest = max(y(value) + 4, lowest + 15)
        yield svg.text(10, lowest, f"{name} {value:.3g}", "fsu-axis")


def strip(what: str, shown: Sequence[Event], now: float, height: Callable[[Event], float], most: str) -> str:
    """One row of columns; `height` from 0 to 1, `most` is what a full column stands for."""
    wide = min(2.4, 70 / len(shown))
    columns = "".join(
        svg.rect(
            place(i, shown) - wide / 2,
            STRIP_PX - max(2.0, STRIP_PX * height(event)),
            wide,
            max(2.0, STRIP_PX * height(event)),
            f"fsu-column fsu-p-{temperature(event)}",
            told(event, now),
        )
        for i, event in enumerate(shown)
    )
    body = svg.picture(
        f"{what} of the same loads, {most} at most", STRIP_PX, svg.across(STRIP_PX, "fsu-grid") + columns
    )
    return (
        f'<div class="fsu-soft fsu-small fsu-strip">{what}, up to {most}</div>'
        f'<div class="fsu-plot"><span></span>{body}</div>'
    )


def hours(shown: Sequence[Event], now: float) -> str:
    """The time of the oldest, the middle and the newest load, under the pictures."""
    picked = [shown[0], shown[len(shown) // 2], shown[-1]] if len(shown) > 2 else [shown[0], shown[-1]]
    words = "".join(f"<span>{when(event.at, now)}</span>" for event in picked)
    return f'<div class="fsu-plot"><span></span><div class="fsu-hours fsu-soft fsu-small">{words}</div></div>'


def legend(shown: Sequence[Event], machine: Machine | None) -> str:
    """What the colours and lines mean; colours that do not occur are left out."""
    seen = {temperature(event) for event in shown}
    keys = [
        ("cold", '<span class="fsu-swatch fsu-ring fsu-p-cold"></span>cold: read from the disk'),
        ("warm", '<span class="fsu-swatch fsu-p-warm"></span>warm: page cache or RAM'),
        ("other", '<span class="fsu-swatch fsu-p-other"></span>disk or page cache: not told apart'),
    ]
    named = [text for kind, text in keys if kind in seen]
    named.append("a dot's area is its bytes")
    named.append(
        "dashed: what this machine can do" if limits(machine) else "limits: measure this machine to see them"
    )
    return (
        '<div class="fsu-keys fsu-soft fsu-small">'
        + "".join(f"<span>{one}</span>" for one in named)
        + "</div>"
    )


def temperature(event: Event) -> str:
    """ "cold", "warm" or "other"."""
    return "cold" if event.source in COLD else "warm" if event.source in WARM else "other"


def css(event: Event) -> str:
    return f"fsu-dot fsu-p-{temperature(event)}"


def told(event: Event, now: float) -> str:
    """The load on one line, as plain text."""
    return f"{when(event.at, now)}  {sentence(event)}"


def place(index: int, shown: Sequence[Event]) -> float:
    """The middle of a load's column, in percent of the width."""
    return 100 * (index + 0.5) / len(shown)
