"""The second device of the embedded WebUI, for tests: a device that PyTorch tells apart from the CPU."""

from __future__ import annotations

from embedded_webui.second_device import (
    CARD,
    Allocations,
    _load,
    built,
    counted,
    full,
    refusals,
    taken,
    used,
    why_not,
)

__all__ = ["CARD", "Allocations", "_load", "built", "counted", "full", "refusals", "taken", "used", "why_not"]
