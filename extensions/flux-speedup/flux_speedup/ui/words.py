"""Figures and names as the page shows them. Pure; what comes back is plain text unless it says HTML."""

from __future__ import annotations

import html
import math
import time

from ..stats.events import KindTotal, Totals
from ..stats.report import printable, seconds, size, speed

NOTHING = "nothing loaded yet"


def safe(text: object) -> str:
    """Any text as HTML: one line, markup escaped, its direction its own (right-to-left stays in place)."""
    return f"<bdi>{html.escape(printable(str(text)))}</bdi>"


def counted(count: int, one: str) -> str:
    """A count with its noun: "1 move", "7 moves"."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def headline(totals: Totals) -> str:
    """Load times in one line: "7 moves, 66.6 GB in 1.4 s; 2 checkpoints in 3.1 s"."""
    parts = []
    moves, checkpoints, unloads = totals.kind("move"), totals.kind("checkpoint"), totals.kind("unload")
    if moves.count:
        parts.append(f"{counted(moves.count, 'move')}, {size(moves.bytes)} in {seconds(moves.seconds)}")
    for noun, total in (("checkpoint", checkpoints), ("unload", unloads)):
        if total.count:
            parts.append(f"{counted(total.count, noun)} in {seconds(total.seconds)}")
    return "; ".join(parts) or NOTHING


def rate(total: KindTotal) -> str:
    """Mean speed, "47.6 GB/s", or "" where there is none."""
    return "" if total.rate is None else speed(total.rate)


def when(at: float, now: float) -> str:
    """The machine's local time: "14:03:22" within the last day, with the date before that."""
    try:
        moment = time.localtime(at)
    except (ValueError, OverflowError, OSError):
        return "?"
    return time.strftime("%H:%M:%S" if abs(now - at) < 86_400 else "%Y-%m-%d %H:%M", moment)


def three_figures(value: float) -> float | None:
    """A number rounded to three significant digits; None for what is no number."""
    return float(f"{value:.3g}") if math.isfinite(value) else None


def plain(text: object) -> str:
    """Any text as one line for an attribute or inside SVG, where `safe`'s own element has no place."""
    return html.escape(printable(str(text)))


def gb_s(value: float | None) -> str:
    """A speed: "46.7 GB/s", "3.1 GB/s", "0.42 GB/s"; "not measured" where there is none."""
    return "not measured" if value is None or not math.isfinite(value) else speed(value)


def share(part: float, whole: float) -> float:
    """`part` of `whole`, from 0 to 1; 0 where that makes no sense."""
    if not (math.isfinite(part) and math.isfinite(whole)) or whole <= 0:
        return 0.0
    return min(1.0, max(0.0, part / whole))


def bar(name: str, share: float, figure: str, css: str = "", more: str = "") -> str:
    """`share` of the bar's width, 0 to 1; `name` and `figure` are HTML; `css`, `more`: classes of bar and row."""
    return (
        f'<div class="fsu-stage {more}"><span>{name}</span><span class="fsu-track">'
        f'<div class="fsu-fill {css}" style="width:{100 * share:.1f}%"></div></span>'
        f'<span class="fsu-number">{figure}</span></div>'
    )


def card(title: str, body: str) -> str:
    """A box with a heading of ours (not escaped)."""
    return f'<div class="fsu fsu-card"><div class="fsu-title">{title}</div>{body}</div>'
