"""What is measured on this machine, in which order: what the disk can do first, the device last."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..stats.events import GB
from ..stats.machine import Machine
from . import moving, reading
from .measurement import Step
from .moving import Open
from .reading import Check


def steps(path: Path, torch: Any, device: Any, opened: Open) -> list[tuple[str, Step]]:
    """Disk and page cache, and with a CUDA `device` the bus and the WebUI's own moves as well."""
    found: list[tuple[str, Step]] = [
        ("reading from the disk", partial(_disk, path)),
        ("reading from the page cache", partial(_page_cache, path)),
    ]
    if device is None or device.type != "cuda":
        return found
    found.append(("copying to the device", partial(_bus, torch, device)))
    if path.suffix.lower() == ".safetensors":
        found.append(("the WebUI's own moves", partial(_host_moves, torch, device, path, opened)))
    return found


def _disk(path: Path, known: Machine, check: Check) -> Machine:
    return replace(known, disk=_gb(reading.cold(path, check)))


def _page_cache(path: Path, known: Machine, check: Check) -> Machine:
    return replace(known, page_cache=_gb(reading.warm(path, check)))


def _bus(torch: Any, device: Any, known: Machine, check: Check) -> Machine:
    return replace(known, bus=_gb(moving.bus(torch, device, check)))


def _host_moves(torch: Any, device: Any, path: Path, opened: Open, known: Machine, check: Check) -> Machine:
    try:
        there, back = moving.host_moves(torch, device, path, opened, check)
    finally:
        moving.give_back(torch)
    return replace(known, host_load=_gb(there), host_unload=_gb(back))


def _gb(rate: float | None) -> float | None:
    return None if rate is None else rate / GB
