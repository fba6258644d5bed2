"""LoRAs of a load, in Comfy's lineage: the host's own function merges them, but once their weights have come.

It merges into what is on the device then, and the backup that it keeps of each weight is the file's view.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch

from ... import shortage
from ...patching.change import Change, Function
from ...weights.errors import WeightsError, let_go
from ...weights.files.span import plain
from ...weights.residency.placement import Placement
from ...weights.residency.shells import alike, parts_of
from ...weights.transfer.lane import LANES
from ..common.timing import name_of
from . import refused
from .names import Names

CPU = torch.device("cpu")
log = logging.getLogger("flux_speedup")


class Merge(NamedTuple):
    """The host's merge of a weight of a patcher, to be made once the weight is on the device."""

    patcher: Any
    key: str
    run: Callable[[], Any]

    def is_made(self) -> bool:
        """Whether memory did not run out on the way. Where it does, some of the host's kinds of LoRA leave the
        weight as it was, or half of it, and write a line to the log.
        """
        before = refused.refusals()
        try:
            self.run()
        except Exception as error:
            if not shortage.of_card(error):
                raise
            let_go(error)
            return False
        return refused.refusals() == before

    def undo(self) -> None:
        """The weight is the one at home, as the host brings it back."""
        owner, _, leaf = self.key.rpartition(".")
        weight = torch.nn.Parameter(self.patcher.backup[self.key].weight, requires_grad=False)
        setattr(self.patcher.model.get_submodule(owner), leaf, weight)


Merges = dict[str, Merge]
"""By the name of the weight, in the host's order."""


class Backup(NamedTuple):
    """What a patcher keeps of a weight that something was merged into, under the host's names."""

    weight: torch.Tensor
    inplace_update: bool


class Merging:
    """`ModelPatcher.patch_weight_to_device` of a thread that is in a load."""

    def __init__(self, names: Names, placement: Placement) -> None:
        self._names = names
        self._placement = placement
        self._thread = threading.local()

    def changes(self) -> list[Change]:
        # It must not run a second time after a failure of ours.
        path = "ModelPatcher.patch_weight_to_device"
        return [Function(self._names.patcher, path, self._wrap, guarded=False), *refused.changes()]

    @contextmanager
    def collecting(self) -> Iterator[Merges]:
        """What this thread would merge in here it is to `make` afterwards."""
        before = getattr(self._thread, "merges", None)
        merges: Merges = {}
        self._thread.merges = merges
        try:
            yield merges
        finally:
            self._thread.merges = before

    def make(self, model: torch.nn.Module, device: torch.device, merges: Merges) -> None:
        """Before anything else comes, as the host does it: what merging takes is free then.

        Where it is not, what has not been merged goes home, and the host brings each weight when it merges it: no
        more is on the device then than without us. Raises torch.OutOfMemoryError where that is too much as well.
        """
        if not merges:
            return
        try:
            self._placement.load(model, device, merges.keys())
        except WeightsError as error:
            log.warning("%s: %s; the WebUI merges into what is in RAM", name_of(model), error)
        residency, waiting = self._placement.of(model), set(merges)
        # What is around others, and is replaced, lives on where the model is kept, with its memory on the device.
        leave = residency.leaving(merges)
        for key, merge in merges.items():
            clean = model.get_parameter(key)
            made = merge.is_made()
            if not made:
                merge.undo()
            if model.get_parameter(key) is not clean:
                leave(clean)
            if not made:
                residency.unload(waiting)
                sys.modules[self._names.manager].soft_empty_cache()  # type: ignore[attr-defined]
                merge.run()
            waiting.remove(key)

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def patch_weight_to_device(patcher: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
            merges: Merges | None = getattr(self._thread, "merges", None)
            if merges is None or not _is_merged_on_the_way(patcher, key, args, kwargs):
                return original(patcher, key, *args, **kwargs)
            patcher.backup.setdefault(key, Backup(alike(patcher.model.get_parameter(key)), False))
            merges[key] = Merge(patcher, key, partial(original, patcher, key, *args, **kwargs))
            return None

        return patch_weight_to_device


def are_twice(patcher: Any, merges: Merges) -> bool:
    """Whether a weight has its LoRA in it already, and would get it at each use as well."""
    merged = [key.rpartition(".") for key in patcher.backup if key not in merges]
    return any(
        getattr(patcher.model.get_submodule(owner), f"{leaf}_function", None) for owner, _, leaf in merged
    )


def is_streamed(device: Any) -> bool:
    """A device that is not home, and that weights can be streamed to."""
    return device is not None and device != CPU and device.type in LANES


def _is_merged_on_the_way(patcher: Any, key: Any, args: Any, kwargs: Any) -> bool:
    """Whether the host merges into a weight at home while it brings it to a device, and into no copy."""
    device = kwargs.get("device_to", args[0] if args else None)
    if len(args) > 1 or kwargs.keys() - {"device_to"} or not is_streamed(device):
        return False
    if key not in patcher.patches or patcher.weight_inplace_update:
        return False
    weight = patcher.model.get_parameter(key)
    if weight.device != CPU:
        return False
    owner, _, leaf = key.rpartition(".")
    # Where it is a layer that puts the merged weight in its place, that is for shells.
    own = hasattr(patcher.model.get_submodule(owner), f"set_{leaf}")
    return bool(parts_of(weight)) or (not own and type(weight) is torch.nn.Parameter and plain(weight))
