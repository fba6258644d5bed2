"""Local weights of detectors and upscalers, with where each comes from. Pure; text goes through `safe`."""

from __future__ import annotations

from collections.abc import Sequence

from ..facts.view import LocalWeight
from ..stats.report import size
from .cards import badge, card
from .words import safe

# The colour of a weight's state, as a badge's class.
STATES = {
    "found": "applied",
    "redirected": "applied",
    "downloaded": "put back",
    "missing": "pending",
    "refused": "failed",
}


MISSING = (
    '<div class="fsu-soft fsu-small">A missing one is downloaded by the script that needs it, '
    "or ahead of time by fetch.py.</div>"
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
    title = f"Local weights <span class='fsu-soft'>{told}</span>"
    hint = MISSING if "missing" in counts else ""
    return card(title, f'{hint}<div class="fsu-rows">{rows}</div>')


def _weight(weight: LocalWeight) -> str:
    known = STATES.get(weight.state)
    state = badge(weight.state, known) if known else f'<span class="fsu-badge">{safe(weight.state)}</span>'
    of = f" &middot; {size(weight.size)}" if weight.size else ""
    below = "".join(
        f'<div class="fsu-soft fsu-small">{safe(text)}</div>' for text in (weight.why, weight.path) if text
    )
    about = f'<span class="fsu-soft fsu-small">{safe(weight.kind)}{of}</span>'
    return (
        f'<div class="fsu-row fsu-weight"><span>{state}</span>'
        f'<div><span class="fsu-item">{safe(weight.name)}</span> {about}{below}</div></div>'
    )
