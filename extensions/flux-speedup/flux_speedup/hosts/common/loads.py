"""Times checkpoints where a WebUI loads them by its own functions: one event for each that was really loaded."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ...patching.change import Call, Change, Function, whatever_is_there
from ...stats.events import UNLOAD, Event

MODELS = "modules.sd_models"
Record = Callable[[Event], None]


class CheckpointLoads:
    """`load_model` and `reload_model_weights`, which call each other and which both may find nothing to do.

    Something was loaded where a file's weights were asked for, or where a model is in use afterwards that was
    none of those there before. What moved meanwhile is part of that load; where nothing was loaded (a model was
    still in RAM) it is told by itself. A load that fails is none.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._thread = threading.local()

    def changes(self) -> list[Change]:
        """Whatever of it this WebUI has."""
        optional: list[Change] = [
            Function(MODELS, "load_model", self._wrap_load),
            Function(MODELS, "reload_model_weights", self._wrap_load),
            Function(MODELS, "get_checkpoint_state_dict", self._wrap_read),
            Function(MODELS, "send_model_to_device", self._wrap_move),
            Function(MODELS, "send_model_to_cpu", self._wrap_move),
        ]
        return [Call(partial(whatever_is_there, optional), module=MODELS)]

    def _wrap_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load(*args: Any, **kwargs: Any) -> Any:
            if self._moves is not None:
                return original(*args, **kwargs)
            moves: list[Event] = []
            self._thread.moves, self._thread.read = moves, False
            known = _known_models()
            started = time.perf_counter()
            try:
                built = original(*args, **kwargs)
            finally:
                self._thread.moves = None
            loaded = built is not None and (self._thread.read or not known(built))
            for event in [_checkpoint(built, time.perf_counter() - started)] if loaded else moves:
                self._record(event)
            return built

        return load

    def _wrap_read(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def get_checkpoint_state_dict(*args: Any, **kwargs: Any) -> Any:
            self._thread.read = True
            return original(*args, **kwargs)

        return get_checkpoint_state_dict

    def _wrap_move(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_model(model: Any, *args: Any, **kwargs: Any) -> Any:
            before, started = bytes_on_device(model), time.perf_counter()
            done = original(model, *args, **kwargs)
            seconds, moved = time.perf_counter() - started, bytes_on_device(model) - before
            if moved > 0:
                self._tell(Event("move", file_of(model).name, moved, seconds, "RAM", "GPU"))
            elif moved < 0:
                self._tell(Event(UNLOAD, file_of(model).name, -moved, seconds, "GPU", "RAM"))
            return done

        return send_model

    @property
    def _moves(self) -> list[Event] | None:
        """Those of the load that this thread is in; None where it is in none."""
        found: list[Event] | None = getattr(self._thread, "moves", None)
        return found

    def _tell(self, event: Event) -> None:
        if self._moves is not None:
            self._moves.append(event)
        else:
            self._record(event)


def bytes_on_device(model: Any) -> int:
    """Bytes of a model's parameters that are on a GPU."""
    parameters = getattr(model, "parameters", None)
    if parameters is None:
        return 0
    return sum(p.nelement() * p.element_size() for p in parameters() if p.device.type not in ("cpu", "meta"))


def file_of(model: Any) -> Path:
    """The checkpoint a model was loaded from."""
    info = getattr(model, "sd_checkpoint_info", None)
    return Path(str(getattr(info, "filename", "") or getattr(model, "filename", "") or "a model"))


def models_in_memory() -> list[Any]:
    """Every checkpoint the WebUI has built and not let go, the one in use first."""
    data = getattr(sys.modules.get(MODELS), "model_data", None)
    found = [getattr(data, "sd_model", None), *(getattr(data, "loaded_sd_models", None) or ())]
    return list({id(model): model for model in found if model is not None}.values())


def _known_models() -> Callable[[Any], bool]:
    """Whether a model was there already; weakly, as what is being replaced must be able to go."""
    references = []
    for model in models_in_memory():
        try:
            references.append(weakref.ref(model))
        except TypeError:
            continue
    return lambda model: any(reference() is model for reference in references)


def _checkpoint(model: Any, seconds: float) -> Event:
    file = file_of(model)
    try:
        size = file.stat().st_size
    except (OSError, ValueError):
        size = 0
    return Event("checkpoint", file.name, size, seconds, "file", "RAM")
