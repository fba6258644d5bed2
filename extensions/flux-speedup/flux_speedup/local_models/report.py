"""What became of each weight, as plain values for the log, the tab and the API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class WeightState(str, Enum):
    """Where a weight of the catalog stands in this process."""

    FOUND = "found"
    MISSING = "missing"
    REDIRECTED = "redirected"
    DOWNLOADED = "downloaded"
    REFUSED = "refused"


@dataclass(frozen=True)
class LocalWeight:
    """One line. `found`: there, and nobody asked for it yet; `redirected`: asked for, answered with `path`;

    `downloaded`: asked for, not there, and the WebUI fetched it; `refused`: there, and not used, see `why`;
    `missing`: not there, and not fetched. `size` in bytes, 0 where there is no file; `path` then is empty.
    """

    name: str
    kind: str
    state: WeightState
    path: str = ""
    size: int = 0
    why: str = ""


IN_ORDER = (
    WeightState.REDIRECTED,
    WeightState.FOUND,
    WeightState.DOWNLOADED,
    WeightState.REFUSED,
    WeightState.MISSING,
)


def summary(weights: Iterable[LocalWeight]) -> str:
    """One sentence for the log, such as "redirected: face_yolov8n.pt, hand_yolov8n.pt; missing: a.pth"."""
    names: dict[WeightState, list[str]] = {state: [] for state in IN_ORDER}
    for row in weights:
        names[row.state].append(row.name)
    missing = len(names[WeightState.MISSING])
    if missing and not any(names[state] for state in IN_ORDER[:-1]):
        return f"none of {missing} is here; whoever needs one downloads it, or fetch.py does"
    parts = [f"{state.value}: {', '.join(found)}" for state, found in names.items() if found]
    return "; ".join(parts) or "the catalog is empty"
