"""reForge reads a checkpoint by safetensors' own function, whole and onto the card: while it loads one, by ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...patching.change import Change, Function
from ..comfy.files import Files


class ReForgeFiles(Files):
    """What is read outside of a load (LoRAs, ControlNets) is the WebUI's to read."""

    def changes(self) -> list[Change]:
        return [
            *super().changes(),
            Function("safetensors.torch", "load_file", self._wrap_whole_file),
            Function(self._names.manager, "text_encoder_initial_device", self._wrap_text_encoder_device),
        ]

    @property
    def _building(self) -> bool:
        return bool(getattr(self._thread, "building", False))

    def _wrap_load_file(self, original: Callable[..., Any]) -> Callable[..., Any]:
        ours = super()._wrap_load_file(original)

        def load_torch_file(*args: Any, **kwargs: Any) -> Any:
            # The text encoder is read from the checkpoint once more; views of it cost nothing where it is mapped.
            return (ours if self._builds_from_files() else original)(*args, **kwargs)

        return load_torch_file

    def _wrap_whole_file(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_file(filename: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._building:
                return original(filename, *args, **kwargs)
            mapping = self._mapped(filename)
            self._thread.read.append(mapping is not None)
            return original(filename, *args, **kwargs) if mapping is None else mapping.views()

        return load_file

    def _wrap_text_encoder_device(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def text_encoder_initial_device(
            load_device: Any, offload_device: Any, *args: Any, **kwargs: Any
        ) -> Any:
            # As the transformer: built on the device, a large one would be a copy there.
            if self._builds_from_files():
                return offload_device
            return original(load_device, offload_device, *args, **kwargs)

        return text_encoder_initial_device
