"""The newest measurement of this machine, in one small JSON file."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, fields
from pathlib import Path

from ..stats.machine import Machine
from ..storage import whole_file

MAX_BYTES = 1 << 16
log = logging.getLogger("flux_speedup")


def save(path: Path, machine: Machine) -> None:
    """Write it, whole or not at all. Raises OSError."""
    whole_file.write(path, json.dumps(asdict(machine), indent=2) + "\n")


def load(path: Path) -> Machine | None:
    """What was written; None where there is nothing or it is something else."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        log.info("%s cannot be read (%s); this machine counts as not measured", path, error)
        return None
    if not isinstance(found, dict) or _number(found.get("at")) is None:
        return None
    rates = {each.name: _number(found.get(each.name)) for each in fields(Machine)[2:]}
    return Machine(float(found["at"]), str(found.get("device", "")), **rates)


def _number(value: object) -> float | None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fits and value > 0 else None  # type: ignore[arg-type, operator]
