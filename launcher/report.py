"""The table of `./run --once`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ROWS = (
    ("start", "start_s"),
    ("load the checkpoint", "load_s"),
    ("move it to the device", "move_s"),
    ("switch to another checkpoint", "switch_s"),
    ("switch back", "switch_back_s"),
    ("unload everything", "unload_s"),
)
IMAGES = (
    ("image", "images"),
    ("image with a LoRA", "lora_images"),
    ("image after a switch", "switch_images"),
    ("image, too little VRAM", "little_images"),
)
NO_FIGURES = "These seconds are no measurements: there is no GPU here, and the models are tiny."
SAME = "What counts is the last column: the images, while all changes named below are in force."


def table(without: dict[str, Any], extended: dict[str, Any], device: str, *, simulated: bool) -> str:
    """Seconds of both runs side by side, whether the images are the same, and what was in force.

    Headed by the device's name; where that is `simulated`, by what the figures are not.
    """
    lines = [device, *([NO_FIGURES, SAME] if simulated else []), "", _row("seconds", "without", "with")]
    lines += [_row(title, _seconds(without[key]), _seconds(extended[key])) for title, key in ROWS]
    for title, key in IMAGES:
        for number, (one, other) in enumerate(zip(without[key], extended[key], strict=True), 1):
            verdict = "same bytes" if one["sha256"] == other["sha256"] else "DIFFERENT"
            row = _row(f"{title} {number}", _seconds(one["seconds"]), _seconds(other["seconds"]))
            lines.append(f"{row}  {verdict}")
    return "\n".join([*lines, "", *_in_force(extended["extension"]["outcomes"])])


def _in_force(outcomes: Sequence[Mapping[str, str]]) -> list[str]:
    """How many changes were in force, which they were, and why the others were not."""
    applied = [outcome["title"] for outcome in outcomes if outcome["state"] == "applied"]
    others = [outcome for outcome in outcomes if outcome["state"] != "applied"]
    lines = [
        f"{len(applied)} of {len(outcomes)} changes were in force:",
        *(f"  {title}" for title in applied),
    ]
    lines += ["not in force:"] if others else []
    return [*lines, *(f"  {one['title']}: {one['state']}, {one['why']}" for one in others)]


def _row(title: str, one: str, other: str) -> str:
    return f"{title:<30}{one:>10}{other:>10}"


def _seconds(value: float) -> str:
    return f"{value:.3f}"
