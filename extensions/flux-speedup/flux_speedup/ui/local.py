"""Local weights of detectors and upscalers, with where each comes from. Pure; text goes through `safe`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..local_models.report import LocalWeight, WeightState
from ..stats.report import size
from .cards import badge
from .words import card, safe

# The colour of a weight's state, as a badge's class.
STATES = {
    WeightState.FOUND: "applied",
    WeightState.REDIRECTED: "applied",
    WeightState.DOWNLOADED: "put back",
    WeightState.MISSING: "pending",
    WeightState.REFUSED: "failed",
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
    counts = Counter(weight.state for weight in weights)
    told = ", ".join(f"{count} {safe(state.value)}" for state, count in counts.items())
    rows = "".join(map(_weight, weights))
    title = f"Local weights <span class='fsu-soft'>{told}</span>"
    hint = MISSING if WeightState.MISSING in counts else ""
    return card(title, f'{hint}<div class="fsu-rows">{rows}</div>')


def _weight(weight: LocalWeight) -> str:
    state = badge(weight.state.value, STATES[weight.state])
    of = f" &middot; {size(weight.size)}" if weight.size else ""
    below = "".join(
        f'<div class="fsu-soft fsu-small">{safe(text)}</div>' for text in (weight.why, weight.path) if text
    )
    about = f'<span class="fsu-soft fsu-small">{safe(weight.kind)}{of}</span>'
    return (
        f'<div class="fsu-row fsu-weight"><span>{state}</span>'
        f'<div><span class="fsu-item">{safe(weight.name)}</span> {about}{below}</div></div>'
    )
