"""Models of Comfy's lineage come to the device and leave it by us: whole, or the modules that the host chose.

The host's own functions decide and keep their books; what they do with `Module.to` on the way is collected. What
they put on the device is brought in one transfer when they have chosen all of it, what they take off it is dropped
at once. Whatever ours cannot move is moved as they would have.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch

from ...patching.change import Change, Function
from ...weights.errors import WeightsError
from ...weights.residency.placement import Placement
from ...weights.residency.signature import taken
from ..common.timing import name_of
from ..common.written_over import forbid
from .by_host import move_the_rest, moved_or_as_before, names_within
from .merging import Merges, Merging, are_twice, is_streamed
from .names import Names

CPU = torch.device("cpu")
log = logging.getLogger("flux_speedup")

Taken = Callable[[torch.nn.Module, torch.device], bool]
"""Takes a `module.to(device)` over; whether it did."""


class Streaming(Protocol):
    """What a model that does not fit is left to; `memory`: bytes that the host gives its weights.

    fits_again: a model that streams goes on to, with as much of it there as fits now. begin: it streams from now
    on, in place of the host's choice of what stays. around: what the host has left at home streams. give_way: so
    many bytes leave, or fewer. drop: it does not stream any more.
    """

    def fits_again(self, patcher: Any, memory: float) -> bool: ...
    def begin(self, patcher: Any, device: torch.device, memory: float) -> bool: ...
    def around(self, patcher: Any, device: torch.device) -> None: ...
    def give_way(self, patcher: Any, size: float) -> int: ...
    def drop(self, model: torch.nn.Module) -> None: ...


class Moves:
    """`ModelPatcher.load`, `unpatch_model` and `partially_unload`, and what a thread in one of them calls."""

    def __init__(self, names: Names, placement: Placement) -> None:
        self._names = names
        self._placement = placement
        self._merging = Merging(names, placement)
        self._thread = threading.local()
        self.streaming: Streaming | None = None

    def changes(self) -> list[Change]:
        patcher = self._names.patcher
        # None of the host's may run a second time after a failure of ours: ours goes on as the host would.
        return [
            Function("torch.nn", "Module.to", self._wrap_to, guarded=False),
            Function(patcher, "ModelPatcher.load", self._wrap_load, guarded=False),
            *self._merging.changes(),
            Function(patcher, "ModelPatcher.unpatch_model", self._wrap_unpatch, guarded=False),
            Function(patcher, "ModelPatcher.partially_unload", self._wrap_partially_unload, guarded=False),
            Function(self._names.manager, "get_free_memory", _wrap_free_memory, guarded=False),
        ]

    def _wrap_to(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def to(module: Any, *args: Any, **kwargs: Any) -> Any:
            taken: Taken | None = getattr(self._thread, "taken", None)
            if taken is not None and len(args) == 1 and not kwargs and isinstance(args[0], torch.device):
                if taken(module, args[0]):
                    return module
                with self._taking(None):
                    return original(module, *args)
            return original(module, *args, **kwargs)

        return to

    @contextmanager
    def _taking(self, taken: Taken | None) -> Iterator[None]:
        before = getattr(self._thread, "taken", None)
        self._thread.taken = taken
        try:
            yield
        finally:
            self._thread.taken = before

    # To the device.

    def _wrap_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load(patcher: Any, device_to: Any = None, *args: Any, **kwargs: Any) -> Any:
            if not is_streamed(device_to):
                return original(patcher, device_to, *args, **kwargs)
            forbid(patcher.model, self._placement)
            memory = 0 if kwargs.get("full_load") else kwargs.get("lowvram_model_memory", 0)
            if memory and self.streaming is not None and self.streaming.fits_again(patcher, memory):
                return None
            self._end_streaming(patcher.model)
            host = partial(original, patcher, device_to, *args, **kwargs)
            done, chosen, merges = self._collected(host, device_to)
            if are_twice(patcher, merges):
                # The host gives it less than it has, and computes LoRAs anew for what they are merged into.
                patcher.unpatch_model(CPU)
                done, chosen, merges = self._collected(host, device_to)
            streaming = self.streaming if memory and patcher.model.model_lowvram else None
            if streaming is None or not streaming.begin(patcher, device_to, memory):
                self._merging.make(patcher.model, device_to, merges)
                self._bring(patcher.model, device_to, chosen)
                if streaming is not None:
                    streaming.around(patcher, device_to)
            return done

        return load

    def _collected(
        self, host: Callable[[], Any], device_to: torch.device
    ) -> tuple[Any, list[torch.nn.Module], Merges]:
        """The host's own, with what it would have moved to the device and merged there."""
        chosen: list[torch.nn.Module] = []

        def collect(module: torch.nn.Module, device: torch.device) -> bool:
            if device != device_to:
                return False
            chosen.append(module)
            return True

        with self._taking(collect), self._merging.collecting() as merges:
            return host(), chosen, merges

    def _bring(self, model: torch.nn.Module, device: torch.device, chosen: list[torch.nn.Module]) -> None:
        """Put the chosen modules on the device, by us as far as possible."""
        names = None if any(module is model for module in chosen) else names_within(model, chosen)
        if names is not None and not names:
            return
        try:
            left = self._placement.load(model, device, names).skipped
        except WeightsError as error:
            forbid(model, self._placement)
            log.warning("%s: %s; falling back to the WebUI's own move", name_of(model), error)
            moved_or_as_before(chosen, device)
            return
        move_the_rest(model, device, left)

    # Back.

    def _wrap_unpatch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def unpatch_model(patcher: Any, device_to: Any = None, unpatch_weights: bool = True) -> Any:
            def drop(module: torch.nn.Module, device: torch.device) -> bool:
                if module is patcher.model and device == CPU:
                    self._let_go(patcher.model, None)
                return False

            home = self._home(patcher, device_to)
            if unpatch_weights:
                self._end_streaming(patcher.model)
            with self._taking(drop if unpatch_weights and home == CPU else None):
                return original(patcher, home, unpatch_weights)

        return unpatch_model

    def _wrap_partially_unload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def partially_unload(
            patcher: Any, device_to: Any, memory_to_free: float = 0, *args: Any, **kwargs: Any
        ) -> Any:
            streaming = self.streaming
            gone = streaming.give_way(patcher, memory_to_free) if streaming is not None else 0
            if gone >= memory_to_free > 0:
                return gone
            self._end_streaming(patcher.model)
            chosen: list[torch.nn.Module] = []

            def collect(module: torch.nn.Module, device: torch.device) -> bool:
                if device == CPU:
                    chosen.append(module)
                return device == CPU

            home = self._home(patcher, device_to)
            with self._taking(collect if home == CPU else None):
                gone += original(patcher, home, memory_to_free - gone, *args, **kwargs)
            if chosen:
                self._let_go(patcher.model, names_within(patcher.model, chosen))
                moved_or_as_before(chosen, CPU)
            if streaming is not None and is_streamed(patcher.load_device):
                streaming.around(patcher, patcher.load_device)
            return gone

        return partially_unload

    def _end_streaming(self, model: torch.nn.Module) -> None:
        if self.streaming is not None:
            self.streaming.drop(model)

    def _home(self, patcher: Any, device: Any) -> Any:
        """Where a model goes back to: in HIGH_VRAM the host names the GPU, and giving way would free nothing."""
        ours = is_streamed(device) and self._placement.of(patcher.model).away
        return CPU if ours else device

    def _let_go(self, model: torch.nn.Module, names: set[str] | None) -> None:
        """Drop what we brought; what stays on the device then is the host's to move."""
        residency = self._placement.of(model)
        if not residency.away:
            return
        try:
            report = self._placement.unload(model) if names is None else residency.unload(names)
        except WeightsError as error:
            log.warning("%s: %s; falling back to the WebUI's own move", name_of(model), error)
            return
        if report.copied_back:
            log.info(
                "%s: weights were changed on the device and are kept in RAM from now on: %d",
                name_of(model),
                len(report.copied_back),
            )


def _wrap_free_memory(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_free_memory(dev: Any = None, *args: Any, **kwargs: Any) -> Any:
        # How much of a model is loaded, and what is computed in one batch, is decided as if we took nothing.
        # (What stands for a card in RAM counts models alone.)
        free = original(dev, *args, **kwargs)
        ours = taken(dev) if is_streamed(dev) and dev.type != "cpu" else 0
        return tuple(each + ours for each in free) if isinstance(free, tuple) else free + ours

    return get_free_memory
