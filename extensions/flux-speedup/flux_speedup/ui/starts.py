"""Starts of the WebUI before and after, and the stages of the newest one. Pure; text goes through `safe`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from ..facts.view import Start
from ..stats.events import Event
from ..stats.first_image import FirstImage
from ..stats.report import seconds
from . import bars, start
from .cards import card
from .words import safe, share, when

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
    body = ""
    if shown:
        longest = max(one.seconds for one in shown)
        body = "".join(_start(one, longest, now) for one in shown)
        body += KEYS
    if first is not None:
        told = first.sentence()
        body += f'<div class="fsu-gap">{safe(told[:1].upper() + told[1:])}</div>'
    if stages:
        took = f"the newest start's stages, {seconds(start.total(stages))}"
        body += f'<div class="fsu-soft fsu-small fsu-gap">{took}</div>'
    return card(
        f"Start-up <span class='fsu-soft'>{before_and_after(starts)}</span>",
        body + start.body(stages),
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
    what = safe(one.what) if one.what else "without Flux Speedup"
    name = f'{when(one.at, now)} <span class="fsu-soft">{what}</span>'
    return bars.row(name, share(one.seconds, longest), seconds(one.seconds), "" if one.what else "fsu-before")
