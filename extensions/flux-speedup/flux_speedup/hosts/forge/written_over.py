"""A weight file that is written over while Forge uses it: no image is ever made from what is left of it.

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
from ..common.engine import patchers_of

SD_MODELS = "modules.sd_models"
PROCESSING = "modules.processing"
_GONE = "it was written over while it was in use, and its old bytes are gone"
_NOT_SHOWN = "the image is not shown, the next one is made from the file as it is now"
log = logging.getLogger("flux_speedup")


class WrittenOver:
    """Looks before and after each request."""

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

    def forbid(self, model: torch.nn.Module) -> None:
        """Raise WeightsError, for whoever asked the host, where weights of a model at home are gone."""
        path = lost_among(_weights(model), self._placement.registry)
        if path is not None:
            raise meant(WeightsError(path, f"{_GONE}; the next image is made from the file as it is now"))

    def _begin(self) -> Undo:
        return apply_all(
            Function(module, name, make)
            for module, name, make in (
                (SD_MODELS, "forge_model_reload", self._wrap_reload),
                (PROCESSING, "forge_model_reload", self._wrap_reload),
                (PROCESSING, "process_images_inner", self._wrap_process),
            )
        )

    def _wrap_reload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forge_model_reload(*args: Any, **kwargs: Any) -> Any:
            data = sys.modules[SD_MODELS].model_data  # type: ignore[attr-defined]
            path = self._gone(data.sd_model)
            if path is None or data.forge_hash != str(data.forge_loading_parameters):
                return original(*args, **kwargs)
            log.warning("%s: %s; the model is built anew from the file as it is now", path, _GONE)
            self._can_be_read(_files(data.forge_loading_parameters))
            data.forge_hash = ""
            with self._rebuild():
                return original(*args, **kwargs)

        return forge_model_reload

    def _wrap_process(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def process_images_inner(*args: Any, **kwargs: Any) -> Any:
            before = len(self._placement.registry.writers.over)
            processed = original(*args, **kwargs)
            data = sys.modules[SD_MODELS].model_data  # type: ignore[attr-defined]
            path = self._gone(data.sd_model)
            if path is not None:
                raise meant(WeightsError(path, f"{_GONE}; {_NOT_SHOWN}"))
            if any(map(self._placement.has_mixed, self._placement.registry.writers.over[before:])):
                data.forge_hash = ""  # what has come to the card may be of both
                reason = f"a file was written over while the card read it; {_NOT_SHOWN}"
                raise meant(WeightsError(None, reason))
            return processed

        return process_images_inner

    def _gone(self, engine: Any) -> Path | None:
        """A file of the model whose bytes it still needs and nobody has."""
        registry = self._placement.registry
        if engine is None or not registry.lost():
            return None
        paths = (lost_among(_weights(patcher.model), registry) for patcher in patchers_of(engine))
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
    def _rebuild(self) -> Iterator[None]:
        self._thread.rebuilding = True
        try:
            yield
        finally:
            self._thread.rebuilding = False


def _weights(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Those of a model, and the clean ones that merged ones have taken the place of."""
    yield from model.parameters()
    yield from model.buffers()
    backup = getattr(getattr(model, "lora_loader", None), "backup", {})
    yield from (tensor for tensor in backup.values() if isinstance(tensor, torch.Tensor))


def _files(parameters: Any) -> list[str]:
    """The weight files that a model with these loading parameters is built from."""
    checkpoint = getattr(parameters.get("checkpoint_info"), "filename", None)
    return [str(file) for file in (checkpoint, *(parameters.get("additional_modules") or ())) if file]
