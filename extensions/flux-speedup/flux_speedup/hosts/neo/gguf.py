"""GGUF files of Forge Neo: what the host has read of one are views of our mapping, and are baked on the card.

The host alone maps the file as well, but bakes its weights in RAM, all of them anew.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch

from ...patching.change import Call, Change, Function, all_or_nothing, whatever_is_there
from ...weights.files.header import no_header
from ...weights.files.mapping import Mapping, Registry
from ...weights.files.span import find
from ...weights.named import parameters_of
from ...weights.residency.forms import recipe_of
from ..forge import gguf_weights
from ..forge.gguf_files import check_header, keep_parameters, view
from ..forge.gguf_weights import is_raw

OPERATIONS = "backend.operations"
PATCHER = "backend.patcher.base"
READER = "modules_forge.packages.gguf.gguf_reader"
SUFFIX = ".gguf"
LAYERS = ("Linear", "Conv2d", "Embedding")


class GgufFiles:
    """What a thread's last reader read, and views of it."""

    def __init__(self, manager: str, registry: Registry) -> None:
        self._manager = manager
        self._registry = registry
        self._thread = threading.local()
        self._baked: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
        """Modules whose weights the host alone would have baked by now, wherever they are."""
        self._others: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
        """Models of other files, which are loaded as often."""

    def changes(self) -> list[Change]:
        found = [
            *gguf_weights.changes(),
            *(
                Function(OPERATIONS, f"ForgeOperationsGGUF.{layer}._apply", keep_parameters)
                for layer in LAYERS
            ),
            Function(READER, "GGUFReader.__init__", self._wrap_reader, guarded=False),
            Function(self._manager, "bake_gguf_model", self._wrap_bake),
            Function(self._manager, "module_size", self._wrap_size),
        ]
        # Not there in every Neo.
        estimate = Function(PATCHER, "low_vram_patch_estimate_vram", self._wrap_estimate)
        return [
            Call(lambda: all_or_nothing(found), module=OPERATIONS),
            Call(lambda: whatever_is_there([estimate]), module=PATCHER),
        ]

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
            if model in self._others:
                return original(model)
            parameters = parameters_of(model)
            if not any(hasattr(parameter, "gguf_cls") for parameter in parameters):
                self._others.add(model)
            raw = [parameter for parameter in parameters if is_raw(parameter)]
            if all(find(parameter.data, self._registry) is None for parameter in raw):
                return original(model)
            if model not in self._baked:
                # As the host: on the card, room for a file's bytes is none for what is made of them.
                sys.modules[self._manager].signal_empty_cache = True  # type: ignore[attr-defined]
            # What comes to the card is baked there; what is used from where it is, at each use.
            self._baked.update(model.modules())
            return None

        return bake_gguf_model

    def _wrap_size(self, original: Callable[..., int]) -> Callable[..., int]:
        """The host's figures are those of baked weights once it has baked them, at home as well."""

        def module_size(module: torch.nn.Module) -> int:
            if not self._baked:  # asked of every layer at every load
                return original(module)
            owners = [each for each in module.modules() if each in self._baked]
            own = [parameter for each in owners for parameter in each.parameters(recurse=False)]
            return original(module) + sum(_more(parameter) for parameter in own)

        return module_size

    def _wrap_estimate(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """What a LoRA of a layer that is left in RAM takes, which the host reckons from what the weight has."""

        def low_vram_patch_estimate_vram(model: torch.nn.Module, key: str) -> Any:
            owner, _, leaf = key.rpartition(".")
            layer = model.get_submodule(owner)
            raw = layer._parameters.get(leaf) if layer in self._baked else None
            more = 0 if raw is None else _more(raw)
            estimate = original(model, key)
            if raw is None or not more:
                return estimate
            return estimate * (raw.data.nbytes + more) // raw.data.nbytes

        return low_vram_patch_estimate_vram


def _more(weight: torch.Tensor) -> int:
    """By how many bytes it is larger once it is baked."""
    recipe = recipe_of(weight)
    return 0 if recipe is None else recipe.bytes - weight.data.nbytes


def _view(parameter: Any, told: Any, mapping: Mapping) -> None:
    """Where the host shows a tensor as the file has it: the same bytes, of our mapping."""
    if not hasattr(parameter, "gguf_cls") or parameter.data_ptr() != told.data.ctypes.data:
        return
    with torch.no_grad():
        parameter.data = view(mapping, told, parameter.data.dtype, parameter.data.shape)
