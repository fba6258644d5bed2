"""Times what a WebUI loads, moves and unloads, and reports it as events. A load that fails is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...patching.change import Change, Function
from ...stats.events import Event

Record = Callable[[Event], None]
MANAGER = "backend.memory_management"
WORTH_TELLING_S = 0.1
TEXTS = "text encoders"
# Class names of what Forge moves, as people call them.
COMPONENTS = {
    "KModel": "transformer",
    "JointTextEncoder": TEXTS,
    "IntegratedAutoencoderKL": "vae",
    "AutoencoderKL": "vae",
}


@dataclass(frozen=True)
class Witness:
    """Who knows of a model's moves more than the clock: source and detail of its arrival, bytes that left."""

    arrival: Callable[[Any], tuple[str, str]]
    departure: Callable[[Any], int]


def forge_changes(record: Record, witness: Witness) -> list[Change]:
    """The three places a model passes through in Forge."""
    return [
        Function("modules.sd_models", "forge_loader", partial(time_checkpoint, record)),
        Function(MANAGER, "LoadedModel.model_load", partial(_time_move, record, witness)),
        Function(MANAGER, "LoadedModel.model_unload", partial(_time_unload, record, witness)),
    ]


def time_checkpoint(record: Record, original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a loader that is given files, by path or as a checkpoint info, in whatever order."""

    def load(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        built = original(*args, **kwargs)
        seconds = time.perf_counter() - started
        files = _files([*args, *kwargs.values()])
        record(
            Event(
                "checkpoint", files[0].name if files else "state dict", _size(files), seconds, "file", "RAM"
            )
        )
        return built

    return load


def _time_move(record: Record, witness: Witness, original: Callable[..., Any]) -> Callable[..., Any]:
    def model_load(self: Any, *args: Any, **kwargs: Any) -> Any:
        # load_models_gpu has just counted what is not on the device yet.
        size, before = int(self.exclusive_memory), on_device(self)
        started = time.perf_counter()
        loaded = original(self, *args, **kwargs)
        seconds = time.perf_counter() - started
        # One that does not fit has come in part. (What is on a CPU that stands for a device does not say so.)
        size = size if self.device.type == "cpu" else max(0, on_device(self) - before)
        if is_worth_telling(size, seconds):
            source, detail = witness.arrival(self.model.model)
            record(Event("move", component(self), size, seconds, source, str(self.device), detail=detail))
        return loaded

    return model_load


def _time_unload(record: Record, witness: Witness, original: Callable[..., Any]) -> Callable[..., Any]:
    def model_unload(self: Any, *args: Any, **kwargs: Any) -> Any:
        size, name, device = on_device(self), component(self), str(self.device)
        started = time.perf_counter()
        done = original(self, *args, **kwargs)
        seconds = time.perf_counter() - started
        # Where ours let go, nothing was copied: the weights are still in their files.
        ours = witness.departure(self.model.model)
        left = ours if ours >= size else max(ours, size - on_device(self))
        if is_worth_telling(left, seconds):
            record(Event("unload", name, left, seconds, device, "" if ours else "RAM"))
        return done

    return model_unload


def is_worth_telling(size: int, seconds: float) -> bool:
    """Whether something moved; on a CPU, or for a model that is there already, there is nothing to tell."""
    return bool(size) or seconds > WORTH_TELLING_S


def component(loaded: Any) -> str:
    """What people call the model in a `LoadedModel`; its class name where we do not know it."""
    return name_of(loaded.model.model)


def name_of(model: Any) -> str:
    """The same of what the host moves."""
    name = type(model).__name__
    # reForge has a class for the text encoders of each kind of model: SD1ClipModel, SDXLClipModel, ...
    return COMPONENTS.get(name, TEXTS if name.endswith("ClipModel") else name)


def on_device(loaded: Any) -> int:
    """Bytes of the model in a `LoadedModel` that are on its device. Asked at every load, of what stays as well."""
    from ...weights.named import parameters_of

    device = loaded.device
    there = (each for each in parameters_of(loaded.model.model) if each.device == device)
    return sum(each.nelement() * each.element_size() for each in there)


def _files(given: Iterable[Any]) -> list[Path]:
    """Every path among the arguments of a loader: as such, in a list, or as a checkpoint info's `filename`."""
    found: list[Path] = []
    for value in given:
        if isinstance(value, (list, tuple)):
            found += _files(value)
        elif isinstance(name := getattr(value, "filename", value), (str, Path)):
            found.append(Path(name))
    return found


def _size(files: Iterable[Path]) -> int:
    total = 0
    for file in files:
        try:
            total += file.stat().st_size
        except (OSError, ValueError):
            continue
    return total
