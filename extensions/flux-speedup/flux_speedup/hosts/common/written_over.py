"""A weight file that is written over while the WebUI uses it: no image is ever made from what is left of it.

Most often nothing is left to do here: a writer waits until the old bytes are in RAM (weights/files/lease). Where
that cannot be, the model goes on as long as the device has all of it, is built anew from the file as it is now
at the next request, or the request ends with an error that says so.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from ...patching.change import Call, Change, Function, Undo, apply_all
from ...patching.guard import meant
from ...weights.errors import WeightsError
from ...weights.files.span import lost_among
from ...weights.residency.placement import Placement
from ...weights.residency.shells import parts_of
from .engine import patchers_of

SD_MODELS = "modules.sd_models"
PROCESSING = "modules.processing"
_GONE = "it was written over while it was in use, and its old bytes are gone"
_NOT_SHOWN = "the image is not shown, the next one is made from the file as it is now"
log = logging.getLogger("flux_speedup")


class WrittenOver:
    """Looks before and after each request, in Forge and Forge Neo."""

    reloads: tuple[tuple[str, str], ...] = (
        (SD_MODELS, "forge_model_reload"),
        (PROCESSING, "forge_model_reload"),
    )
    """In which the host builds a model, where it has to."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._thread = threading.local()

    @property
    def rebuilding(self) -> bool:
        """Whether this thread builds a model that the WebUI alone would not: its file is not to be renamed."""
        return getattr(self._thread, "rebuilding", False)

    def changes(self) -> list[Change]:
        # It imports the other one, and names from there.
        return [Call(self._begin, module=PROCESSING)]

    def _begin(self) -> Undo:
        functions = [(*name, self._wrap_reload) for name in self.reloads]
        functions.append((PROCESSING, "process_images_inner", self._wrap_process))
        return apply_all(Function(module, name, make) for module, name, make in functions)

    def _wrap_reload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forge_model_reload(*args: Any, **kwargs: Any) -> Any:
            data = model_data()
            path = self._gone(data.sd_model)
            if path is None or data.forge_hash != str(data.forge_loading_parameters):
                return original(*args, **kwargs)
            with self._rebuild(path, _files(data.forge_loading_parameters)):
                self._is_to_be_built_anew()
                return original(*args, **kwargs)

        return forge_model_reload

    def _is_to_be_built_anew(self) -> None:
        """What is there is not to be used again."""
        model_data().forge_hash = ""

    def _wrap_process(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def process_images_inner(*args: Any, **kwargs: Any) -> Any:
            before = len(self._placement.registry.writers.over)
            processed = original(*args, **kwargs)
            path = self._gone(model_data().sd_model)
            if path is not None:
                raise meant(WeightsError(path, f"{_GONE}; {_NOT_SHOWN}"))
            if any(map(self._placement.has_mixed, self._placement.registry.writers.over[before:])):
                self._is_to_be_built_anew()  # what has come to the card may be of both
                reason = f"a file was written over while the card read it; {_NOT_SHOWN}"
                raise meant(WeightsError(None, reason))
            return processed

        return process_images_inner

    def _gone(self, engine: Any) -> Path | None:
        """A file of the model whose bytes it still needs and nobody has."""
        registry = self._placement.registry
        if engine is None or not hasattr(engine, "forge_objects_original") or not registry.lost():
            return None
        paths = (lost_among(_weights(patcher.model, patcher), registry) for patcher in patchers_of(engine))
        return next((path for path in paths if path is not None), None)

    def _can_be_read(self, files: Iterable[str]) -> None:
        """Raise, for whoever asked the host, the reason why a file cannot: the host would not say it."""
        for file in files:
            if file.lower().endswith(".safetensors"):
                try:
                    self._placement.registry.open(file)
                except WeightsError as error:
                    raise meant(error) from error

    @contextlib.contextmanager
    def _rebuild(self, path: Path | str, files: Iterable[str]) -> Iterator[None]:
        """In here a model is built anew from these files."""
        log.warning("%s: %s; the model is built anew from the file as it is now", path, _GONE)
        self._can_be_read(files)
        self._thread.rebuilding = True
        try:
            yield
        finally:
            self._thread.rebuilding = False


def forbid(model: torch.nn.Module, placement: Placement) -> None:
    """Raise WeightsError, for whoever asked the host, where weights of a model at home are gone."""
    path = lost_among(_weights(model), placement.registry)
    if path is not None:
        raise meant(WeightsError(path, f"{_GONE}; the next image is made from the file as it is now"))


def model_data() -> Any:
    """What the host has of models."""
    return sys.modules[SD_MODELS].model_data  # type: ignore[attr-defined]


def _weights(model: torch.nn.Module, patcher: Any = None) -> Iterator[torch.Tensor]:
    """Those of a model, and the clean ones that merged ones have taken the place of: Forge has them in a loader of
    the model, others in its patcher, each as `weight`."""
    for tensor in (*model.parameters(), *model.buffers()):
        yield from parts_of(tensor).values() or (tensor,)
    for owner in (getattr(model, "lora_loader", None), patcher):
        for clean in getattr(owner, "backup", {}).values():
            tensor = getattr(clean, "weight", clean)
            if isinstance(tensor, torch.Tensor):
                yield from parts_of(tensor).values() or (tensor,)


def _files(parameters: Any) -> list[str]:
    """The weight files that a model with these loading parameters is built from."""
    checkpoint = getattr(parameters.get("checkpoint_info"), "filename", None)
    return [str(file) for file in (checkpoint, *(parameters.get("additional_modules") or ())) if file]
