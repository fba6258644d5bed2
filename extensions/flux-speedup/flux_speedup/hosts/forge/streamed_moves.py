"""How weights of a split model come to the card to stay, and leave it, with the LoRAs that are merged into them."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from typing import Any

import torch

from ...weights.errors import WeightsError
from ...weights.named import named_parameters
from ...weights.residency.data import own_copy
from ...weights.residency.placement import Placement
from ...weights.streaming.split import Arrive
from .lora import Merge, merge_in
from .merged import Merged, take_back

SMALL = 1 << 20


def cast_there(model: torch.nn.Module, device: torch.device) -> set[str]:
    """Names of small parameters on the device, such as biases that the host has put in the places of GGUF's."""
    there = [(name, one.data) for name, one in named_parameters(model) if one.device == device]
    return {name for name, data in there if data.nbytes <= SMALL}


class Moves:
    """What brings weights of a model to stay, and lets them go. Holds the model weakly."""

    def __init__(
        self, placement: Placement, model: weakref.ref[torch.nn.Module], device: torch.device
    ) -> None:
        self._placement = placement
        self._model = model
        self._device = device

    def load(self, names: Collection[str]) -> None:
        skipped = self._placement.load(self._found(), self._device, names).skipped
        if skipped:
            raise WeightsError(None, f"{skipped[0]} is only the WebUI's to move")

    def expect(self, names: Collection[str]) -> Arrive:
        return self._placement.expect(self._found(), self._device, names)

    def unload(self, names: Collection[str]) -> None:
        model = self._found()
        loader: Any = getattr(model, "lora_loader", None)
        known = getattr(loader, "loaded_hash", None)
        self._placement.unload(model, names)
        if take_back(loader, names).count:
            loader.loaded_hash = known  # as they arrive they get it again
        for name in cast_there(model, self._device).intersection(names):
            parameter = model.get_parameter(name)
            parameter.data = own_copy(parameter)

    def merge(self, merges: Mapping[str, Merge]) -> None:
        model = self._found()
        with torch.inference_mode():
            merge_in(self._placement.of(model), model.lora_loader, merges)

    def on_device(self) -> set[str]:
        """Names of weights that are on the device now, merged ones too; merged ones at home are clean again."""
        model = self._found()
        loader: Any = getattr(model, "lora_loader", None)
        merged = dict(loader.backup) if isinstance(getattr(loader, "backup", None), Merged) else {}
        there = {name for name in merged if model.get_parameter(name).device == self._device}
        known = getattr(loader, "loaded_hash", None)
        if take_back(loader, set(merged) - there).count:
            loader.loaded_hash = known
        return there | set(self._placement.of(model).resident) | cast_there(model, self._device)

    def _found(self) -> Any:
        found = self._model()
        if found is None:
            raise WeightsError(None, "its model is gone")
        return found
