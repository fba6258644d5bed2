"""The log's newest lines. Pure; they go through `safe`."""

from __future__ import annotations

from collections.abc import Sequence

from .cards import card
from .words import safe

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
