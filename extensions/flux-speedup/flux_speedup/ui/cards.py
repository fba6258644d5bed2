"""The parts of the page as HTML, each from the values it shows. Pure; foreign text goes through `safe`."""

from __future__ import annotations

from collections.abc import Sequence

from ..facts.view import Status
from ..patching.table import Outcome, State
from ..stats.events import Event, Totals
from ..stats.machine import Savings
from ..stats.report import seconds, size, span
from . import start
from .words import card, counted, headline, rate, safe


def head(status: Status, savings: Savings, totals: Totals, stages: Sequence[Event]) -> str:
    """Name, host, switch, the seconds saved, and the figures people look for first."""
    switch = badge("on", "applied") if status.enabled else badge("off", "skipped")
    return (
        f'<div class="fsu">{simulated(status)}<div class="fsu-card"><div class="fsu-head">'
        f'<span class="fsu-name">Flux Speedup</span>{switch}'
        f'<span class="fsu-soft fsu-push">{safe(status.host)} &middot; version {safe(status.version)}</span>'
        f'</div>{saved(savings)}<div class="fsu-tiles">{tiles(totals, stages)}</div></div></div>'
    )


def saved(savings: Savings) -> str:
    """The headline: seconds saved since the start and in the last request, and how that is known."""
    figures = _saved(savings.since_start, ("saved since the start", "lost since the start"), "")
    if savings.in_request is not None and (savings.in_request or savings.since_start):
        words = ("of it in the last request", "lost in the last request")
        figures += _saved(savings.in_request, words, " fsu-second")
    something = savings.since_start or savings.in_request
    estimate = f"{badge('estimate', 'pending')} " if savings.estimated and something else ""
    return (
        f'<div class="fsu-saved">{figures}</div>'
        f'<div class="fsu-soft fsu-how">{estimate}{safe(savings.how)}</div>'
    )


def _saved(value: float, words: tuple[str, str], css: str) -> str:
    """words: for seconds that were saved, and for those that were lost."""
    plain = "" if value > 0 else " fsu-plain"
    said = words[1] if value < 0 else words[0]
    return f'<span><span class="fsu-saved-figure{css}{plain}">{span(abs(value))}</span> {said}</span>'


def simulated(status: Status) -> str:
    """The heading that nobody may miss where the device is a stand-in."""
    if not status.simulated:
        return ""
    return (
        '<div class="fsu-notice"><b>simulated device, our stand-in</b><br>'
        "There is no GPU here: the figures below show that the parts work, not how fast a card is.</div>"
    )


def tiles(totals: Totals, stages: Sequence[Event]) -> str:
    """Four figures: moved, built, unloaded, started."""
    moves, built, unloads = totals.kind("move"), totals.kind("checkpoint"), totals.kind("unload")
    moved = _joined(f"{counted(moves.count, 'move')} in {seconds(moves.seconds)}", rate(moves))
    loaded = _joined(f"in {seconds(built.seconds)}", rate(built))
    named = counted(len(start.stages(stages)), "stage")
    shown = (
        ("Moved to the device", moves.count, size(moves.bytes), moved),
        ("Checkpoints built", built.count, str(built.count), loaded),
        ("Unloads", unloads.count, str(unloads.count), f"in {seconds(unloads.seconds)}"),
        ("Start of the WebUI", len(stages), seconds(start.total(stages)), named),
    )
    return "".join(
        tile(label, figure, below) if count else tile(label, "&ndash;", "none yet")
        for label, count, figure, below in shown
    )


def tile(label: str, figure: str, below: str) -> str:
    """One figure with its label and what belongs to it."""
    return (
        f'<div class="fsu-tile"><div class="fsu-soft fsu-small">{label}</div>'
        f'<div class="fsu-figure">{figure}</div>'
        f'<div class="fsu-soft fsu-small">{below or "&nbsp;"}</div></div>'
    )


def status_card(status: Status) -> str:
    """The tier and why, and one row for every item."""
    tier = (
        f'<div><span class="fsu-item">Memory tier: {safe(status.tier)}</span> '
        f'<span class="fsu-soft">&middot; {safe(status.card)}</span></div>'
        f'<div class="fsu-soft">{safe(status.tier_why)}</div>'
    )
    return card("Status", tier + outcome_rows(status.outcomes))


def outcome_rows(outcomes: Sequence[Outcome]) -> str:
    """What is changed, item by item: state, title, why."""
    if not outcomes:
        return '<div class="fsu-rows fsu-none fsu-soft">Nothing is changed.</div>'
    rows = "".join(
        f'<div class="fsu-row"><span>{badge(o.state.value, o.state.value)}</span>'
        f'<span class="fsu-item">{safe(o.title)}</span>'
        f'<span class="fsu-why fsu-soft">{safe(o.why)}</span></div>'
        for o in outcomes
    )
    return (
        '<div class="fsu-rows fsu-scroll" tabindex="0" role="region" aria-label="What is changed" '
        f'data-fsu-key="outcomes">{rows}</div>'
    )


def badge(text: str, kind: str) -> str:
    """A coloured state; `kind` is a word of ours."""
    return f'<span class="fsu-badge fsu-{kind.replace(" ", "-")}">{text}</span>'


def statistics_line(totals: Totals) -> str:
    """Load times in one line, for the settings section."""
    return f'<div class="fsu fsu-soft"><span>Since this start:</span> <span>{headline(totals)}</span></div>'


def counts_line(outcomes: Sequence[Outcome]) -> str:
    """How many items stand where: "4 applied, 1 skipped"."""
    counts = {state: sum(o.state is state for o in outcomes) for state in State}
    words = (f"{count} {state.value}" for state, count in counts.items() if count)
    return ", ".join(words) or "nothing is changed"


def result(message: str, *, good: bool = True) -> str:
    """What a button did; `message` is HTML."""
    return f'<div class="fsu fsu-result{"" if good else " fsu-wrong"}" role="status">{message}</div>'


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


# How the log marks what is no ordinary line (`log.Ring`).
LEVELS = {"[warning]": "fsu-warning", "[error]": "fsu-error", "[critical]": "fsu-error"}


def log_card(lines: Sequence[str]) -> str:
    """The log's newest lines, the newest last."""
    if not lines:
        return card("Log", '<div class="fsu-soft">The log is empty.</div>')
    shown = "".join(f'<div class="{_level(line)}">{safe(line)}</div>' for line in lines)
    return card("Log", f'<div class="fsu-log" role="log" aria-live="off">{shown}</div>')


def _level(line: str) -> str:
    return next((css for mark, css in LEVELS.items() if line.endswith(mark)), "")
