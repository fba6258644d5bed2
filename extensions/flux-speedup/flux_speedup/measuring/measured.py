"""What is known of this machine, and the measurement that finds it out."""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from ..stats.machine import Machine, Measuring
from ..stats.report import speed
from ..storage import json_file, whole_file
from .measurement import Measurement
from .steps import steps

MAX_BYTES = 1 << 16
log = logging.getLogger("flux_speedup")


class CannotMeasure(Exception):
    """Nothing can be measured now; the message says why, for people."""


@dataclass(frozen=True)
class Place:
    """Where to measure. `file`: where the result goes, None: nowhere. `weights`: the file that is read."""

    file: Callable[[], Path | None]
    weights: Callable[[], Path | None]
    device: Callable[[], Any]
    card: Callable[[], str]
    busy: Callable[[], bool]


class Measured:
    """Safe from any thread. A request that begins cancels a measurement: images never wait for one."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._read = False
        self._machine: Machine | None = None
        self._measurement = Measurement(self._done, place.busy)

    def machine(self) -> Machine | None:
        """The newest measurement of this card."""
        with self._lock:
            if not self._read:
                self._read = True
                file = self._place.file()
                self._machine = load(file) if file is not None else None
            found = self._machine
        return found if found is not None and found.device == self._place.card() else None

    def measuring(self) -> Measuring:
        """How far the measurement is that runs or ran last."""
        return self._measurement.now()

    def measure(self) -> Measuring:
        """Begin in the background. Raises CannotMeasure."""
        if self._place.busy():
            raise CannotMeasure("an image is being made; try again when it is done")
        weights, torch = self._place.weights(), sys.modules.get("torch")
        if weights is None or not weights.is_file():
            raise CannotMeasure("no checkpoint is selected: its file is what is read")
        if torch is None:
            raise CannotMeasure("PyTorch is not loaded yet")
        known = Machine(time.time(), self._place.card())
        return self._measurement.begin(known, steps(weights, torch, self._place.device(), _opened))

    def cancel(self, why: str) -> Measuring:
        """End it soon, if it runs."""
        return self._measurement.cancel(why)

    def wait(self, timeout: float) -> bool:
        """Whether it ended within `timeout` seconds."""
        return self._measurement.wait(timeout)

    def _done(self, machine: Machine) -> None:
        with self._lock:
            self._read, self._machine = True, machine
        named = {
            "disk": machine.disk,
            "page cache": machine.page_cache,
            "bus": machine.bus,
            "the WebUI's own moves": machine.host_load,
            "and back": machine.host_unload,
        }
        rates = ", ".join(f"{name} {speed(rate)}" for name, rate in named.items() if rate is not None)
        log.info("this machine was measured: %s", rates or "nothing could be")
        file = self._place.file()
        try:
            if file is not None:
                save(file, machine)
        except OSError as error:
            log.warning("%s cannot be written (%s); the measurement is gone with this process", file, error)


def _opened(path: Path) -> Any:
    from safetensors import safe_open

    return partial(safe_open, framework="pt", device="cpu")(str(path))


def save(path: Path, machine: Machine) -> None:
    """Write it, whole or not at all. Raises OSError."""
    whole_file.write(path, json.dumps(asdict(machine), indent=2) + "\n")


def load(path: Path) -> Machine | None:
    """What was written; None where there is nothing or it is something else."""
    try:
        found = json_file.read(path, MAX_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.info("%s cannot be read (%s); this machine counts as not measured", path, error)
        return None
    if _number(found.get("at")) is None:
        return None
    rates = {each.name: _number(found.get(each.name)) for each in fields(Machine)[2:]}
    return Machine(float(found["at"]), str(found.get("device", "")), **rates)


def _number(value: object) -> float | None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fits and value > 0 else None  # type: ignore[arg-type, operator]
