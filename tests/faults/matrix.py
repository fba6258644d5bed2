"""Every point of a weight's life fails once at every position, in every way: what came out, counted."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.faults.injector import POINTS, Faults
from tests.faults.scenario import Model, steps, tensors
from tests.second_device import used
from tests.unit.weights.weight_files import write_weights

KINDS = ("bf16", "fp16", "fp32", "fp8")


@dataclass
class Row:
    """One point: how many faults were made, and what was wrong afterwards."""

    point: str
    positions: int = 0
    faults: int = 0
    passed_on: int = 0
    wrong: list[str] = field(default_factory=list)


def rows(folder: Path, kind: str, *, most: int = 1000) -> Iterator[Row]:
    """One row a point. `most`: of the positions of one point, spread evenly where there are more."""
    torch.set_num_threads(1)  # small tensors: threads of its own would only wait for one another
    path = write_weights(folder / f"{kind}.safetensors", tensors(kind))
    counted = Faults()
    _live(Model(path, kind), counted)
    gc.collect()
    gc.freeze()  # what is there now is looked at no more: each collection costs a tenth of a second else
    before = held(path)
    for point in POINTS:
        row = Row(point.name, counted.calls[point.name])
        stride = max(1, row.positions // most)
        for position in range(0, row.positions, stride):
            for error in point.errors:
                _one(row, path, kind, (point.name, position), error(), before)
        yield row


def _one(
    row: Row, path: Path, kind: str, at: tuple[str, int], error: BaseException, before: dict[str, int]
) -> None:
    model: Model | None = Model(path, kind)
    assert model is not None
    where = f"{at[0]} number {at[1]}: {type(error).__name__} {error}"
    row.faults += 1
    try:
        row.passed_on += _live(model, Faults(at, error))
        _next_image(model)
    except BaseException as problem:  # whatever it is, it is a finding
        row.wrong.append(f"{where}: the next image fails: {type(problem).__name__}: {problem}")
    else:
        row.wrong += [f"{where}: {name} is wrong" for name in model.wrong()]
    model = error.__traceback__ = error.__context__ = None  # tracebacks hold what their frames held
    after = held(path)
    row.wrong += [
        f"{where}: {after[what] - before[what]} {what} more" for what in before if after[what] > before[what]
    ]
    before |= after  # told once


def _live(model: Model, faults: Faults) -> int:
    """The whole evening; whether an exception came out of one of the steps (and the evening went on)."""
    passed_on = 0
    with faults:
        for name, step in steps():
            try:
                if model.module is None and name != "build":
                    with faults.paused():
                        model.build()
                step(model, faults)
            except (KeyboardInterrupt, MemoryError, RuntimeError, OSError) as error:
                if error is not faults.error and error.__cause__ is not faults.error:
                    raise
                passed_on += 1
    return passed_on


def _next_image(model: Model) -> None:
    """Without a LoRA, off the card and onto it again, with nothing failing any more."""
    if model.module is None:
        model.build()
    model.clean({"big", "small", "other"})
    model.to_home()
    model.to_card()


def held(path: Path) -> dict[str, int]:
    """What this process holds that a failure could leave behind."""
    on_the_card = used()  # collects what nobody holds any more, so first
    maps = Path("/proc/self/maps")
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "mappings": sum(str(path) in line for line in maps.read_text().splitlines()) if maps.exists() else 0,
        "threads": threading.active_count(),
        "bytes on the card": on_the_card,
    }
