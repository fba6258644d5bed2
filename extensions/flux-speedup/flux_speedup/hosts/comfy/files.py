"""A model of Comfy's lineage is built of views of its files: nothing is copied into RAM."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import torch

from ...patching.change import Call, Change, Function, whatever_is_there
from ...weights.errors import WeightsError
from ...weights.files.mapping import Mapping, Registry
from ...weights.files.span import find, plain
from ..common import corrupted, saving
from .names import Names

CPU = torch.device("cpu")
ENDINGS = (".safetensors", ".sft")
# PyTorch's own word for `load_state_dict(assign=True)`, by module.
ASSIGN = "assign_to_params_buffers"
log = logging.getLogger("flux_speedup")


class Files:
    """The functions that read a checkpoint and put it into layers; what they tell each other is kept by thread."""

    def __init__(self, names: Names, registry: Registry) -> None:
        self._names = names
        self._registry = registry
        self._thread = threading.local()

    def changes(self) -> list[Change]:
        names = self._names
        layers: list[Change] = [
            Function(names.operations, f"{layer}._load_from_state_dict", self._wrap_layer)
            for layer in names.layers
        ]
        pinning = Function(names.manager, "pin_memory", self._wrap_pin)
        return [
            *saving.changes(self._registry),
            *corrupted.changes(lambda: self._registry.make_room()),
            Function(*names.build, self._wrap_build, guarded=False),
            Function(names.reading, "load_torch_file", self._wrap_load_file),
            Function(names.manager, names.initial_device, self._wrap_initial_device),
            Call(lambda: whatever_is_there([*layers, pinning])),
        ]

    def was_built_from_files(self) -> bool:
        """Whether every file of the build that this thread has just made was mapped by us. Answers once."""
        read = self._thread.__dict__.pop("read", [])
        return bool(read) and all(read)

    def _wrap_build(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def build(*args: Any, **kwargs: Any) -> Any:
            self._thread.read, self._thread.building = [], True
            try:
                return original(*args, **kwargs)
            finally:
                self._thread.building = False

        return build

    def _wrap_load_file(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_torch_file(ckpt: Any, *args: Any, **kwargs: Any) -> Any:
            mapping = self._mapped(ckpt) if at_home(kwargs.get("device")) and not args else None
            self._note(mapping is not None)
            if mapping is None:
                return original(ckpt, *args, **kwargs)
            if kwargs.get("return_metadata"):
                # As safetensors has it: a file without metadata has none, and not an empty one.
                return mapping.views(), dict(mapping.header.metadata) or None
            return mapping.views()

        return load_torch_file

    def _note(self, ours: bool) -> None:
        """A file of the build under way was mapped by us, or was not."""
        self._thread.__dict__.setdefault("read", []).append(ours)

    def _mapped(self, file: Any) -> Mapping | None:
        if not str(file).lower().endswith(ENDINGS):
            return None
        try:
            return self._registry.open(file)
        except WeightsError as error:
            log.warning("%s; falling back to the WebUI's loader", error)
            return None

    def _wrap_layer(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A layer takes the file's tensors as they are where they are what it would have copied them into."""

        def _load_from_state_dict(
            layer: Any, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any
        ) -> Any:
            if self._are_what_it_has(layer, state_dict, prefix):
                local_metadata = {**local_metadata, ASSIGN: True}
            return original(layer, state_dict, prefix, local_metadata, *rest)

        return _load_from_state_dict

    def _are_what_it_has(self, layer: torch.nn.Module, state_dict: Any, prefix: str) -> bool:
        own = {**layer._parameters, **layer._buffers}
        pairs = [
            (tensor, state_dict.get(prefix + name)) for name, tensor in own.items() if tensor is not None
        ]
        return all(
            found is None or (_is_the_same_kind(tensor, found) and find(found, self._registry) is not None)
            for tensor, found in pairs
        )

    def _wrap_initial_device(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def initial_load_device(*args: Any, **kwargs: Any) -> Any:
            # Built on the device, weights would be copies there; built at home they stay views of the file.
            if self._builds_from_files():
                return CPU
            return original(*args, **kwargs)

        return initial_load_device

    def _builds_from_files(self) -> bool:
        read = getattr(self._thread, "read", [])
        return bool(getattr(self._thread, "building", False) and read and all(read))

    def _wrap_pin(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def pin_memory(tensor: Any) -> Any:
            # Our private mapping takes a minute to register, and every page of it memory of its own.
            if (
                isinstance(tensor, torch.Tensor)
                and plain(tensor)
                and tensor.device == CPU
                and self._registry.around(tensor.data_ptr(), tensor.nbytes) is not None
            ):
                return False
            return original(tensor)

        return pin_memory


def at_home(device: Any) -> bool:
    """Whether what is read stays in RAM."""
    return device is None or device == CPU


def _is_the_same_kind(tensor: torch.Tensor, found: Any) -> bool:
    return (
        isinstance(found, torch.Tensor)
        and plain(tensor)
        and plain(found)
        and (tensor.dtype, tensor.device, tensor.shape) == (found.dtype, found.device, found.shape)
        and found.is_contiguous()
    )
