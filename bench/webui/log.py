"""What the WebUI printed while it worked on a request."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOVING = re.compile(r"(?:Moving model\(s\)|Memory cleanup) has taken ([\d.]+) seconds")
LOADED = re.compile(r"Model loaded in ([\d.]+)s")
TOLD = re.compile(
    r"^(?:\[Unload\]|\[Memory Management\]|\[flux-speedup\]|Moving |Memory cleanup|Model loaded|.*Swap Loaded)"
)


STARTUP = re.compile(r"Startup time: ([\d.]+)s \((.*)\)")
SCRIPTS = re.compile(r"load scripts: ([\d.]+)s")


@dataclass(frozen=True)
class Said:
    """Seconds by the WebUI's own word; the lines they came from, and those about memory."""

    moving: float
    building: float
    lines: list[str]


def said(text: str) -> Said:
    """A progress bar's states are separate lines, of which none is kept."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    return Said(
        round(sum(map(float, MOVING.findall(text))), 3),
        round(sum(map(float, LOADED.findall(text))), 3),
        [line for line in lines if TOLD.match(line)],
    )


def startup(text: str) -> tuple[float, float]:
    """Seconds of the whole start and of "load scripts", by the WebUI's own timer."""
    whole, parts = STARTUP.findall(text)[-1]
    scripts = SCRIPTS.search(parts)
    return float(whole), float(scripts[1]) if scripts else 0.0
