"""Where the time of a request went: a stacked bar with its legend, its passes, and the last requests to choose
from. Pure; foreign text goes through `safe`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from ..stats.report import per_step, seconds, size, span, speed
from ..stats.requests import PARTS, Pass, Request, Steps
from . import svg
from .cards import badge
from .words import card, counted, safe, share, when

SHOWN = 8
PASSES = 40
# The class of a part's colour, and its name for people.
CSS = {
    "load": "load",
    "move": "move",
    "unload": "unload",
    "text encoding": "text",
    "sampling": "sampling",
    "vae": "vae",
    "adetailer": "adetailer",
}
NAMES = {
    "load": "load from files",
    "move": "move to the device",
    "unload": "unload from the device",
    "vae": "VAE",
    "other": "everything else",
    "adetailer": "ADetailer",
}
# A segment narrower than this share of the bar has no room for its figure on a small screen.
ROOM = 0.13


def request_card(requests: Sequence[Request], chosen: str | None, now: float) -> str:
    """The request whose key is chosen, or the newest, and the last ones to choose from."""
    if not requests:
        empty = '<div class="fsu-soft">No image was made since the start.</div>'
        return card("Where the time of a request went", empty)
    request = find(requests, chosen)
    newest = "the last request" if request is requests[0] else f"request {request.number}"
    title = (
        f"Where the time of {newest} went {state(request)}<span class='fsu-soft'>{about(request, now)}</span>"
    )
    listed = recent(requests[:SHOWN], request, now) if len(requests) > 1 else ""
    return card(title, detail(request) + listed)


def find(requests: Sequence[Request], chosen: str | None) -> Request:
    """The chosen one, or the newest where it is gone or nothing was chosen."""
    return next((request for request in requests if request.key == chosen), requests[0])


def state(request: Request) -> str:
    """A badge where the request did not simply end."""
    if request.running:
        return badge("running", "pending")
    return badge("failed", "failed") if request.failed else ""


def about(request: Request, now: float) -> str:
    """Kind, origin, time, images and bytes on one line, as HTML."""
    said = [safe(request.kind), f"from the {safe(request.via)}", when(request.began, now)]
    if request.images:
        said.append(counted(request.images, "image"))
    if request.bytes:
        said.append(f"{size(request.bytes)} moved to the device")
    return " &middot; ".join(said)


def detail(request: Request) -> str:
    """The whole in figures, the bar, its legend, its passes."""
    spent = ordered(request.parts)
    whole = sum(value for _, value in spent)
    moving = sum(value for part, value in spent if part in ("load", "move", "unload"))
    so_far = " so far" if request.running else ""
    line = (
        f'<div class="fsu-saved"><span class="fsu-figure">{span(request.seconds)}{so_far}</span>'
        f'<span class="fsu-soft">{seconds(moving)} of it ({share(moving, whole):.0%}) for models that load, '
        "move or unload</span></div>"
    )
    # A pass of its own says it in its line.
    steps = [each.steps for each in request.passes if each.steps is not None]
    first = sampled(steps[0]) if steps else ""
    return line + first + bar(request.parts, 34, figures=True) + legend(spent, whole) + passes(request)


def ordered(parts: Mapping[str, float]) -> list[tuple[str, float]]:
    """(part, seconds) of what took time, in the order of the bar; parts we do not know come last."""
    known = [part for part in PARTS if part in parts]
    more = [part for part in parts if part not in PARTS]
    return [(part, parts[part]) for part in (*known, *more) if math.isfinite(parts[part]) and parts[part] > 0]


def bar(
    parts: Mapping[str, float], height: int, *, longest: float | None = None, figures: bool = False
) -> str:
    """A stacked bar; `longest`: the seconds that its full width stands for."""
    spent = ordered(parts)
    scale = longest or sum(value for _, value in spent)
    label = ", ".join(f"{name(part)} {seconds(value)}" for part, value in spent) or "nothing yet"
    return svg.picture(label, height, "".join(_segments(spent, scale, height, figures)))


def _segments(spent: Sequence[tuple[str, float]], scale: float, height: int, figures: bool) -> Iterator[str]:
    x = 0.0
    for part, value in spent:
        width = min(100.0 - x, 100.0 * share(value, scale))
        told = f"{name(part)}: {seconds(value)} ({share(value, scale):.0%})"
        yield svg.rect(x, 0, width, height, f"fsu-part {css(part)}", told)
        if figures and width >= 100 * ROOM:
            yield svg.text(x + width / 2, height / 2 + 4.5, seconds(value), f"fsu-on {css(part)}", "middle")
        x += width


def legend(spent: Sequence[tuple[str, float]], whole: float) -> str:
    """Each part with its colour, seconds and share."""
    keys = "".join(
        f'<div class="fsu-key"><span class="fsu-swatch {css(part)}"></span><span>{safe(name(part))}</span>'
        f'<span class="fsu-number">{seconds(value)}</span>'
        f'<span class="fsu-number fsu-soft">{share(value, whole):.0%}</span></div>'
        for part, value in spent
    )
    return f'<div class="fsu-legend">{keys}</div>'


def sampled(steps: Steps) -> str:
    """Seconds an iteration as the figure people compare, and what of it waited for weights."""
    figure = f'<span class="fsu-figure">{per_step(steps.seconds)}</span>'
    said = [f"<span>{counted(steps.count, 'step')}</span>"]
    if steps.rate is not None:
        said.append(f"<span>{size(steps.bytes)} of weights a step, {speed(steps.rate)}</span>")
    if steps.waited is not None:
        part = share(steps.waited, steps.seconds)
        said.append(f"<span>{seconds(steps.waited)} of a step ({part:.0%}) waited for weights</span>")
    return f'<div class="fsu-saved">{figure}<span class="fsu-keys fsu-soft">{"".join(said)}</span></div>'


def passes(request: Request) -> str:
    """A bar for every one of the first passes, all on the scale of the longest; a line for the others."""
    if not request.passes:
        return ""
    longest = max((one.seconds for one in request.passes if math.isfinite(one.seconds)), default=0.0)
    more = request.passes[PASSES:]
    left = sum(one.seconds for one in more if math.isfinite(one.seconds))
    rows = "".join(
        f'<div class="fsu-pass"><span>{safe(one.name)}{_rate(one)}</span>{bar(one.parts, 14, longest=longest)}'
        f'<span class="fsu-number">{seconds(one.seconds)}</span></div>'
        for one in request.passes[:PASSES]
    )
    if more:
        rows += f'<div class="fsu-soft fsu-small">and {len(more)} more, {seconds(left)} together</div>'
    return f'<div class="fsu-passes"><div class="fsu-soft fsu-small">pass by pass</div>{rows}</div>'


def _rate(one: Pass) -> str:
    if one.steps is None:
        return ""
    return f' <span class="fsu-soft fsu-small">{per_step(one.steps.seconds)}</span>'


def recent(requests: Sequence[Request], chosen: Request, now: float) -> str:
    """The last requests as bars on one scale; each is a button that shows it above."""
    longest = max((one.seconds for one in requests if math.isfinite(one.seconds)), default=0.0)
    rows = "".join(
        f'<button type="button" class="fsu-request" data-fsu-do="request:{one.key}" '
        f'data-fsu-key="request:{one.key}" aria-pressed="{str(one is chosen).lower()}">'
        f'<span><span class="fsu-item">{one.number}</span> {safe(one.kind)} '
        f'<span class="fsu-soft">{when(one.began, now)}</span> {state(one)}</span>'
        f'{bar(one.parts, 12, longest=longest)}<span class="fsu-number">{seconds(one.seconds)}</span></button>'
        for one in requests
    )
    title = '<div class="fsu-soft fsu-small">the last requests: choose one</div>'
    return f'<div class="fsu-passes">{title}{rows}</div>'


def name(part: str) -> str:
    """A part's name for people."""
    return NAMES.get(part, part)


def css(part: str) -> str:
    """The class that carries a part's colour."""
    return f"fsu-p-{CSS.get(part, 'other')}"
