"""GGUF files of Forge Neo: what the host has read of one are views of our mapping, and are baked on the card.

The host alone maps the file as well, but bakes its weights in RAM, all of them anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

from ...patching.change import Call, Change, Function, all_or_nothing
from ...weights.files.mapping import Mapping, Registry
from ...weights.files.span import find
from ..forge import gguf_weights
from ..forge.gguf_files import check_header, keep_parameters, no_header, view
from ..forge.gguf_weights import is_raw

OPERATIONS = "backend.operations"
READER = "modules_forge.packages.gguf.gguf_reader"
SUFFIX = ".gguf"
LAYERS = ("Linear", "Conv2d", "Embedding")


class GgufFiles:
    """What a thread's last reader read, and views of it."""

    def __init__(self, manager: str, registry: Registry) -> None:
        self._manager = manager
        self._registry = registry
        self._thread = threading.local()

    def changes(self) -> list[Change]:
        found = [
            *gguf_weights.changes(),
            *(
                Function(OPERATIONS, f"ForgeOperationsGGUF.{layer}._apply", keep_parameters)
                for layer in LAYERS
            ),
            Function(READER, "GGUFReader.__init__", self._wrap_reader, guarded=False),
            Function(self._manager, "bake_gguf_model", self._wrap_bake),
        ]
        return [Call(lambda: all_or_nothing(found), module=OPERATIONS)]

    def read(self, file: str, read: Callable[[], Any]) -> Any:
        """What the host reads of a file, its tensors views of ours. Raises WeightsError, and what `read` raises."""
        mapping = self._registry.open(file, no_header)
        try:
            found = read()
            reader = getattr(self._thread, "reader", None)
            if reader is not None:
                check_header(reader, mapping)
            tensors = found[0] if isinstance(found, tuple) else found
            for told in reader.tensors if reader is not None else ():
                _view(tensors.get(str(told.name)), told, mapping)
        finally:
            self._thread.reader = None
        return found

    def _wrap_reader(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(reader: Any, *args: Any, **kwargs: Any) -> None:
            original(reader, *args, **kwargs)
            self._thread.reader = reader

        return __init__

    def _wrap_bake(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def bake_gguf_model(model: Any) -> Any:
            raw = [parameter for parameter in model.parameters() if is_raw(parameter)]
            if all(find(parameter.data, self._registry) is None for parameter in raw):
                return original(model)
            # What comes to the card is baked there; what is used from where it is, at each use.
            return None

        return bake_gguf_model


def _view(parameter: Any, told: Any, mapping: Mapping) -> None:
    """Where the host shows a tensor as the file has it: the same bytes, of our mapping."""
    if not hasattr(parameter, "gguf_cls") or parameter.data_ptr() != told.data.ctypes.data:
        return
    with torch.no_grad():
        parameter.data = view(mapping, told, parameter.data.dtype, parameter.data.shape)
