"""A1111's checkpoints come to the card by us, and the next one is written over the model that is there.

The WebUI itself takes the model in use off the card, copies the other's weights into it there and puts it back,
though nothing of what it saves that way is used again. Where both fit, the model stays where it is.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ... import ram
from ...patching.change import Change, Function
from ...weights import whole_file
from ...weights.errors import WeightsError
from ...weights.transfer.lane import LANES
from ..common.loads import MODELS

CPU = torch.device("cpu")
ENDINGS = (".safetensors", ".sft")
MARGIN = 1 << 30
"""Bytes that stay free on the card besides the file's: what is cast on the way."""
log = logging.getLogger("flux_speedup")

Free = Callable[[torch.device], int]


class Loading:
    """The changes of one process. `free`: bytes that can still be had on a device."""

    def __init__(self, free: Free | None = None) -> None:
        self._free = free or free_on
        self._thread = threading.local()

    def changes(self) -> list[Change]:
        return [
            Function(MODELS, "read_state_dict", self._wrap_read),
            Function("safetensors.torch", "load_file", self._wrap_load_file),
            Function(MODELS, "reload_model_weights", self._wrap_reload),
            Function(MODELS, "send_model_to_cpu", self._wrap_send),
        ]

    def _wrap_read(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def read_state_dict(*args: Any, **kwargs: Any) -> Any:
            with self._noting("reading", True):
                return original(*args, **kwargs)

        return read_state_dict

    def _wrap_load_file(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_file(filename: Any, device: Any = "cpu", *args: Any, **kwargs: Any) -> Any:
            if not getattr(self._thread, "reading", False) or args or kwargs or not _is_streamed(device):
                return original(filename, device, *args, **kwargs)
            try:
                return whole_file.load(filename, torch.device(device))
            except WeightsError as error:
                log.warning("%s: %s; falling back to the WebUI's loader", filename, error)
            return original(filename, device)

        return load_file

    def _wrap_reload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def reload_model_weights(sd_model: Any = None, info: Any = None, *args: Any, **kwargs: Any) -> Any:
            with self._noting("staying", self._staying(sd_model, info)):
                return original(sd_model, info, *args, **kwargs)

        return reload_model_weights

    def _wrap_send(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_model_to_cpu(model: Any) -> Any:
            if model is None or getattr(self._thread, "staying", None) is not model:
                return original(model)
            return sys.modules["modules.devices"].torch_gc()

        return send_model_to_cpu

    def _staying(self, model: Any, info: Any) -> Any:
        """The model in use, where the WebUI is going to write the other one into it and both fit; else None."""
        models: Any = sys.modules[MODELS]
        model = model or models.model_data.sd_model
        chosen = info or models.checkpoint_aliases.get(_options().sd_model_checkpoint)
        if model is None or chosen is None or getattr(model, "lowvram", True):
            return None
        if _options().sd_checkpoints_limit > 1:
            return None
        if [id(each) for each in models.model_data.loaded_sd_models] != [id(model)]:
            return None
        if models.check_fp8(model) or sys.modules["modules.devices"].fp8:
            return None
        device = next(model.parameters()).device
        length = _size(chosen.filename)
        return model if length and length + MARGIN <= self._free(device) else None

    @contextmanager
    def _noting(self, name: str, value: Any) -> Iterator[None]:
        before = getattr(self._thread, name, None)
        setattr(self._thread, name, value)
        try:
            yield
        finally:
            setattr(self._thread, name, before)


def free_on(device: torch.device) -> int:
    """Bytes of a CUDA device that this process could still take; of others it is not known: 0."""
    if device.type == "cpu":
        return ram.available()
    if device.type != "cuda":
        return 0
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + held


def _is_streamed(device: Any) -> bool:
    """A device that is not home, and that weights can be streamed to, by whatever name the WebUI has for it."""
    try:
        named = torch.device(device)
    except (RuntimeError, TypeError):
        return False
    return named != CPU and named.type in LANES


def _options() -> Any:
    return sys.modules["modules.shared"].opts  # type: ignore[attr-defined]


def _size(file: str) -> int:
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0
