"""The table of `./run --once`."""

from __future__ import annotations

from typing import Any

ROWS = (
    ("start", "start_s"),
    ("load the checkpoint", "load_s"),
    ("move it to the device", "move_s"),
    ("switch to another checkpoint", "switch_s"),
    ("switch back", "switch_back_s"),
    ("unload everything", "unload_s"),
)


def table(without: dict[str, Any], extended: dict[str, Any], device: str) -> str:
    """Seconds of both runs side by side, and whether the images are the same. Headed by the device's name."""
    lines = [device, "", _row("seconds", "without", "with")]
    lines += [_row(title, _seconds(without[key]), _seconds(extended[key])) for title, key in ROWS]
    for title, key in (("image", "images"), ("image after a switch", "switch_images")):
        for number, (one, other) in enumerate(zip(without[key], extended[key], strict=True), 1):
            verdict = "same bytes" if one["sha256"] == other["sha256"] else "DIFFERENT"
            row = _row(f"{title} {number}", _seconds(one["seconds"]), _seconds(other["seconds"]))
            lines.append(f"{row}  {verdict}")
    return "\n".join(lines)


def _row(title: str, one: str, other: str) -> str:
    return f"{title:<30}{one:>10}{other:>10}"


def _seconds(value: float) -> str:
    return f"{value:.3f}"
