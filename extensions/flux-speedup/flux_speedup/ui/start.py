"""The start of the WebUI: starts before and after, and the stages of the newest one, as bars. Pure.

A host may report its own sum ("total") and parts of a stage beside the stage ("load scripts/xyz_grid.py"
beside "load scripts"): neither counts twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..stats.events import WHOLE, Event
from ..stats.first_image import FirstImage
from ..stats.report import seconds
from ..stats.starts import Start, before_and_after
from .words import bar, card, safe, share, when

SHORT_S = 0.05
SHOWN = 8
KEYS = (
    '<div class="fsu-keys fsu-soft fsu-small">'
    '<span><span class="fsu-swatch fsu-p-other"></span>without Flux Speedup</span>'
    '<span><span class="fsu-swatch fsu-p-sampling"></span>with Flux Speedup</span></div>'
)


def start_card(
    starts: Sequence[Start], stages: Sequence[Event], now: float, first: FirstImage | None = None
) -> str:
    """Starts before and after as bars, then the stages of the newest one."""
    shown = [one for one in starts if math.isfinite(one.seconds)][:SHOWN]
    page = ""
    if shown:
        longest = max(one.seconds for one in shown)
        page = "".join(_start(one, longest, now) for one in shown)
        page += KEYS
    if first is not None:
        told = first.sentence()
        page += f'<div class="fsu-gap">{safe(told[:1].upper() + told[1:])}</div>'
    if stages:
        took = f"the newest start's stages, {seconds(total(stages))}"
        page += f'<div class="fsu-soft fsu-small fsu-gap">{took}</div>'
    return card(
        f"Start-up <span class='fsu-soft'>{before_and_after(starts)}</span>",
        page + body(stages),
    )


def _start(one: Start, longest: float, now: float) -> str:
    what = safe(one.what) if one.what else "without Flux Speedup"
    name = f'{when(one.at, now)} <span class="fsu-soft">{what}</span>'
    return bar(name, share(one.seconds, longest), seconds(one.seconds), "" if one.what else "fsu-before")


def latest(events: Sequence[Event]) -> list[Event]:
    """Of stages newest first, the newest start's in their order: a name seen before is an earlier start's."""
    seen: set[str] = set()
    newest = []
    for event in events:
        if event.what in seen:
            break
        seen.add(event.what)
        newest.append(event)
    return newest[::-1]


def stages(start: Sequence[Event]) -> list[Event]:
    """The stages that add up: without the host's own sum and without parts of another stage."""
    names = {event.what for event in start}
    return [
        event
        for event in start
        if event.what != WHOLE and event.what.partition("/")[0] not in names - {event.what}
    ]


def parts(start: Sequence[Event]) -> list[Event]:
    """What `stages` leaves out, the host's sum aside."""
    counted = {event.what for event in stages(start)}
    return [event for event in start if event.what != WHOLE and event.what not in counted]


def total(start: Sequence[Event]) -> float:
    """Seconds the start took: the host's own sum where it reports one."""
    whole = [event.seconds for event in start if event.what == WHOLE]
    return whole[-1] if whole else sum(event.seconds for event in stages(start))


def rows(events: Sequence[Event], longest: float) -> str:
    """One bar an event; the short ones are one line together."""
    short = [event for event in events if event.seconds < SHORT_S]
    shown = "".join(_bar(event, longest) for event in events if not event.seconds < SHORT_S)
    if not short:
        return shown
    together = seconds(sum(event.seconds for event in short))
    return f'{shown}<div class="fsu-soft">and {len(short)} under {SHORT_S} s, {together} together</div>'


def body(start: Sequence[Event]) -> str:
    """The card's content: stages, and what they consist of behind a line to click."""
    named, inside = stages(start), parts(start)
    if not named:
        return '<div class="fsu-soft">This WebUI reported no stages.</div>'
    longest = max((event.seconds for event in named if math.isfinite(event.seconds)), default=0.0)
    page = rows(named, longest)
    if inside:
        outer = dict.fromkeys(event.what.partition("/")[0] for event in inside)
        within = ", ".join(safe(name) for name in outer)
        summary = f"inside {within}: {len(inside)} parts"
        page += f'<details data-fsu-key="start"><summary>{summary}</summary>{rows(inside, longest)}</details>'
    return page


def _bar(event: Event, longest: float) -> str:
    # Never nothing: a bar of no width looks like a stage that did not run.
    return bar(safe(event.what), max(0.01, share(event.seconds, longest)), seconds(event.seconds))
