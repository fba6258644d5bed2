"""Times what a memory manager of Comfy's lineage moves and unloads, whole or in part."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ...patching.change import Change, Function
from ...stats.events import UNLOAD, Event
from ..common.timing import Record, Witness, component, is_worth_telling, on_device


def move_changes(manager: str, record: Record, witness: Witness) -> list[Change]:
    """The two places a model passes through on its way to the device and back."""
    return [
        Function(manager, "LoadedModel.model_load", partial(_time_move, record, witness)),
        Function(manager, "LoadedModel.model_unload", partial(_time_unload, record, witness)),
    ]


def _time_move(record: Record, witness: Witness, original: Callable[..., Any]) -> Callable[..., Any]:
    def model_load(loaded: Any, *args: Any, **kwargs: Any) -> Any:
        # Every image asks for its models again; only of what is not there as a whole each weight is looked at.
        before = None if loaded.model_loaded_memory() >= loaded.model_memory() else on_device(loaded)
        started = time.perf_counter()
        done = original(loaded, *args, **kwargs)
        seconds = time.perf_counter() - started
        size = 0 if before is None else max(0, on_device(loaded) - before)
        if is_worth_telling(size, seconds):
            source, detail = witness.arrival(loaded.model.model)
            target = str(loaded.device)
            record(Event("move", component(loaded), size, seconds, source, target, detail=detail))
        return done

    return model_load


def _time_unload(record: Record, witness: Witness, original: Callable[..., Any]) -> Callable[..., Any]:
    def model_unload(loaded: Any, *args: Any, **kwargs: Any) -> Any:
        patcher = loaded.model
        if patcher is None:
            return original(loaded, *args, **kwargs)
        before, name, device = on_device(loaded), component(loaded), str(loaded.device)
        started = time.perf_counter()
        done = original(loaded, *args, **kwargs)
        seconds = time.perf_counter() - started
        ours = witness.departure(patcher.model)
        left = ours if ours >= before else max(ours, before - on_device(loaded))
        if is_worth_telling(left, seconds):
            record(Event(UNLOAD, name, left, seconds, device, "" if ours else "RAM"))
        return done

    return model_unload
