"""Lists of the page: starts before and after, local weights, the log's last lines. Pure; text goes through `safe`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from ..stats.events import Event
from ..stats.report import size
from ..view import LocalWeight, Start
from . import start
from .cards import badge, card
from .words import safe, seconds, share, when

STARTS = 8
# The colour of a weight's state, as a badge's class.
STATES = {
    "found": "applied",
    "redirected": "applied",
    "downloaded": "put back",
    "missing": "pending",
    "refused": "failed",
}
LEVELS = {"WARNING": "fsu-warning", "ERROR": "fsu-error", "CRITICAL": "fsu-error"}


def start_card(starts: Sequence[Start], stages: Sequence[Event], now: float) -> str:
    """Starts before and after as bars, then the stages of the newest one."""
    shown = [one for one in starts if math.isfinite(one.seconds)][:STARTS]
    body = ""
    if shown:
        longest = max(one.seconds for one in shown)
        body = "".join(_start(one, longest, now) for one in shown)
        body += (
            '<div class="fsu-keys fsu-soft fsu-small"><span><span class="fsu-swatch fsu-p-other"></span>before</span>'
            '<span><span class="fsu-swatch fsu-p-sampling"></span>with Flux Speedup</span></div>'
        )
    took = f"the newest start's stages, {seconds(start.total(stages))}" if stages else "stages"
    return card(
        f"Start-up <span class='fsu-soft'>{before_and_after(starts)}</span>",
        f'{body}<div class="fsu-soft fsu-small fsu-gap">{took}</div>{start.body(stages)}',
    )


def before_and_after(starts: Sequence[Start]) -> str:
    """The median of the starts without us and the newest with us: "17.6 s before, 6.2 s now"."""
    without = [one.seconds for one in starts if not one.what and math.isfinite(one.seconds)]
    ours = next((one.seconds for one in starts if one.what), None)
    said = []
    if without:
        said.append(f"{seconds(median(without))} before")
    if ours is not None:
        said.append(f"{seconds(ours)} now")
    if without and ours is None:
        return said[0]
    return ", ".join(said) if without else ", ".join([*said, "no start without us was seen"]) if said else ""


def _start(one: Start, longest: float, now: float) -> str:
    css = "fsu-fill" if one.what else "fsu-fill fsu-before"
    what = safe(one.what) if one.what else "before"
    return (
        f'<div class="fsu-stage"><span>{when(one.at, now)} <span class="fsu-soft">{what}</span></span>'
        f'<span class="fsu-track"><div class="{css}" style="width:{100 * share(one.seconds, longest):.1f}%"></div></span>'
        f'<span class="fsu-number">{seconds(one.seconds)}</span></div>'
    )


def local_card(weights: Sequence[LocalWeight]) -> str:
    """Detector and upscaler weights, each with where it comes from."""
    if not weights:
        body = '<div class="fsu-soft">No script asked for a detector or an upscaler.</div>'
        return card("Local weights", body)
    counts: dict[str, int] = {}
    for weight in weights:
        counts[weight.state] = counts.get(weight.state, 0) + 1
    told = ", ".join(f"{count} {safe(state)}" for state, count in counts.items())
    rows = "".join(map(_weight, weights))
    return card(f"Local weights <span class='fsu-soft'>{told}</span>", f'<div class="fsu-rows">{rows}</div>')


def _weight(weight: LocalWeight) -> str:
    known = STATES.get(weight.state)
    state = badge(weight.state, known) if known else f'<span class="fsu-badge">{safe(weight.state)}</span>'
    of = f" &middot; {size(weight.size)}" if weight.size else ""
    below = "".join(
        f'<div class="fsu-soft fsu-small">{safe(text)}</div>' for text in (weight.why, weight.path) if text
    )
    return (
        f'<div class="fsu-row fsu-weight"><span>{state}</span><div><span class="fsu-item">{safe(weight.name)}</span> '
        f'<span class="fsu-soft fsu-small">{safe(weight.kind)}{of}</span>{below}</div></div>'
    )


def log_card(lines: Sequence[str]) -> str:
    """The log's newest lines, the newest last."""
    if not lines:
        return card("Log", '<div class="fsu-soft">The log is empty.</div>')
    shown = "".join(f'<div class="{_level(line)}">{safe(line)}</div>' for line in lines)
    return card("Log", f'<div class="fsu-log" role="log" aria-live="off">{shown}</div>')


def _level(line: str) -> str:
    return next((css for word, css in LEVELS.items() if word in line), "")
