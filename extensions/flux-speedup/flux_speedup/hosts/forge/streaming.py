"""Models that do not fit on the card, in Forge: in place of its swapping, and of its unloading of whole models.

What streams is marked as the host marks what it swaps, and lies at home where the host would have it. So wherever
streaming cannot or must not be, the host moves weights by itself and computes the same.
"""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch

from ...patching.change import Call, Change, Function
from ...stats.report import size as in_words
from ...weights.errors import WeightsError
from ...weights.residency.placement import Placement
from ...weights.streaming.clock import Timed
from ...weights.streaming.timeline import Timeline, timeline_for
from ...weights.transfer.direct import Direct
from ..common.timing import COMPONENTS
from .engine import CPU
from .streamed import Means, Streamed, streamable
from .streamed_lora import Known, StreamedLoras
from .streamed_pass import Passes

MANAGER = "backend.memory_management"
PATCHER = "backend.patcher.base"
ENGINE = "backend.diffusion_engine.base"
KINDS = ("cuda", "cpu")
LEAST_MODEL = 256 << 20
"""Bytes of a model that is worth being split."""
QUIET = 256 << 20
"""Bytes kept for computing of a model that streams so that it pushes nothing out."""
log = logging.getLogger("flux_speedup")


@dataclass
class Loading:
    """One call of the host's load_models_gpu. `need`: bytes that must be free for inference after it."""

    models: list[Any]
    need: int


@dataclass(frozen=True)
class Placed:
    """What stands in a profile for all that we have put on the device: the host finds nothing to move."""

    total_mem: int

    def to(self, _device: Any) -> None:
        return None


class _NoRoom(ValueError):
    """Not even that fits which must stay."""


class Streaming:
    """The split models of one process, and the functions that keep them so. The host moves one at a time."""

    def __init__(self, placement: Placement, direct: Direct) -> None:
        """`registers`, later: whether files may be registered with CUDA."""
        self.registers = True
        self._placement = placement
        self._direct = direct
        self._streamed: weakref.WeakKeyDictionary[torch.nn.Module, Streamed] = weakref.WeakKeyDictionary()
        self._timed: weakref.WeakKeyDictionary[torch.nn.Module, Timed] = weakref.WeakKeyDictionary()
        self._timelines: dict[torch.device, Timeline] = {}
        self._thread = threading.local()
        self._loras = StreamedLoras(self.of, self.drop)
        self._said: dict[str, str] = {}

    def changes(self) -> list[Change]:
        passes = Passes(self.of, self.give_way_now)
        return [
            Call(lambda: self._let_all_go),
            Function(MANAGER, "load_models_gpu", self._wrap_load_models),
            Function(MANAGER, "free_memory", self._wrap_free_memory),
            Function(MANAGER, "LoadedModel.model_load", self._wrap_model_load),
            Function(MANAGER, "build_module_profile", self._wrap_profile),
            Function(PATCHER, "ModelPatcher.forge_unpatch_model", self._wrap_unpatch),
            Function("backend.patcher.lora", "LoraLoader.refresh", self._loras.wrap_refresh, guarded=False),
            Function("backend.modules.k_model", "KModel.apply_model", passes.wrap, guarded=False),
            Function(ENGINE, "ForgeDiffusionEngine.save_unet", self._wrap_save, guarded=False),
            Function(ENGINE, "ForgeDiffusionEngine.save_checkpoint", self._wrap_save, guarded=False),
        ]

    def of(self, model: torch.nn.Module) -> Streamed | None:
        """The split of a model, if it is split."""
        return self._streamed.get(model)

    def sentence(self, model: torch.nn.Module) -> str:
        """What of it stays and what streams; empty where it does not stream."""
        found = self.of(model)
        return found.sentence() if found is not None and found.split.streaming else ""

    def drop(self, model: torch.nn.Module) -> None:
        """It is not split any more: what stays, stays, the rest is at home. A LoRA must be merged anew."""
        found = self._streamed.pop(model, None)
        if found is not None:
            found.close()
            self._loras.dropped(model, found.split)

    # What the host calls.

    def _wrap_load_models(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_models_gpu(
            models: Any, memory_required: float = 0, hard_memory_preservation: float = 0
        ) -> Any:
            least = _manager().minimum_inference_memory()
            need = int(max(least, memory_required) + hard_memory_preservation)
            before = getattr(self._thread, "loads", None)
            self._thread.loads = Loading(list(models), need)
            try:
                self._rest({id(patcher.model) for patcher in models})
                for patcher in models:
                    self._look_again(patcher.model)
                done = original(models, memory_required, hard_memory_preservation)
            finally:
                self._thread.loads = before
            for patcher in models:
                self._come_back(patcher.model, [each.model for each in models], need)
            return done

        return load_models_gpu

    def _wrap_free_memory(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def free_memory(
            memory_required: float, device: Any, keep_loaded: Any = (), free_all: bool = False
        ) -> Any:
            manager = _manager()
            everything = manager.ALWAYS_VRAM_OFFLOAD or manager.vram_state == manager.VRAMState.NO_VRAM
            if free_all or everything or not is_card(device):
                return original(memory_required, device, keep_loaded, free_all)
            wanted = self._wanted(memory_required, device)
            kept = {id(loaded.model.model) for loaded in keep_loaded}
            self._rest(kept)
            self._make_room(wanted, device, lambda model: id(model) not in kept)
            done = original(wanted, device, keep_loaded, free_all)
            short = wanted - manager.get_free_memory(device)
            # The host's estimate for one in use is generous: not for a little of it is a whole model split.
            self._make_room(
                wanted,
                device,
                lambda model: id(model) in kept and (self.of(model) is not None or short > wanted / 4),
            )
            return done

        return free_memory

    def _wrap_model_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def model_load(loaded: Any, model_gpu_memory_when_using_cpu_swap: Any = -1) -> Any:
            model = loaded.model.model
            self._thread.known = self._loras.known(model)
            self.drop(model)
            manager = _manager()
            pinned = manager.PIN_SHARED_MEMORY
            self._thread.loading = loaded
            try:
                return original(loaded, model_gpu_memory_when_using_cpu_swap)
            finally:
                self._thread.loading = None
                manager.PIN_SHARED_MEMORY = pinned
                found = self.of(model)
                if found is not None:
                    found.flags = True

        return model_load

    def _wrap_profile(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def build_module_profile(model: Any, model_gpu_memory_when_using_cpu_swap: Any) -> Any:
            loaded = getattr(self._thread, "loading", None)
            streamed = None
            if loaded is not None and loaded.model.model is model and is_card(loaded.device):
                streamed = self._split(model, loaded.device, loaded.model.offload_device)
            if streamed is None:
                return original(model, model_gpu_memory_when_using_cpu_swap)
            manager = _manager()
            at_home = list(streamed.split.modules)
            for module in at_home:
                found: Any = module
                found.total_mem, found.weight_mem, found.extra_mem = manager.module_size(
                    module, return_split=True
                )
            manager.PIN_SHARED_MEMORY = False  # until the load is over: ours are where they are to be read
            return [Placed(streamed.resident)], [], at_home

        return build_module_profile

    def _wrap_unpatch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forge_unpatch_model(patcher: Any, target_device: Any = None) -> Any:
            if target_device is not None:
                self.drop(patcher.model)
            return original(patcher, target_device)

        return forge_unpatch_model

    def _wrap_save(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def save(engine: Any, filename: str) -> Any:
            """What is written must have the LoRA in it: nothing streams meanwhile."""
            self._unload(list(self._streamed))
            self._thread.saving = True
            try:
                return original(engine, filename)
            finally:
                self._thread.saving = False

        return save

    # Room.

    def _wanted(self, memory_required: float, device: torch.device) -> float:
        """What must be free: not for all of a model that can stream where it would push another one out."""
        loads: Loading | None = getattr(self._thread, "loads", None)
        if loads is None:
            return memory_required
        current = _manager().current_loaded_models
        wanted, need = 0, loads.need
        for patcher in loads.models:
            if patcher.load_device != device or any(loaded.model is patcher for loaded in current):
                continue
            model = patcher.model
            if self._pushes(model, loads):
                wanted += self._at_home(model)
            else:
                wanted += self._least(model)
                need = QUIET
        return min(memory_required, wanted + need)

    def _pushes(self, model: torch.nn.Module, loads: Loading) -> bool:
        """What computes many times a load, or is small, comes whole as far as it can; others give way to it."""
        if hasattr(model, "diffusion_model") or len(loads.models) > 1:
            return True
        return self._at_home(model) < LEAST_MODEL or not streamable(model)

    def _least(self, model: torch.nn.Module) -> int:
        units = streamable(model)
        largest = max(unit.bytes for unit in units.values())
        own = sum(unit.bytes for unit in units.values())
        return min(self._at_home(model), self._at_home(model) - own + 3 * largest)

    def _at_home(self, model: torch.nn.Module) -> int:
        loader: Any = getattr(model, "lora_loader", None)
        resident = {*self._placement.of(model).resident, *(getattr(loader, "backup", None) or ())}
        named = [*model.named_parameters(), *model.named_buffers()]
        return sum(tensor.nbytes for name, tensor in named if name not in resident)

    def _make_room(self, wanted: float, device: Any, may: Callable[[torch.nn.Module], bool]) -> None:
        """Units leave, of the models used longest ago first, until so much is free or none is left."""
        manager = _manager()
        for loaded in reversed(list(manager.current_loaded_models)):
            missing = int(wanted - manager.get_free_memory(device)) + 1
            if missing <= 1:
                return
            if loaded.device == device and may(loaded.model.model):
                self._give_way(loaded, missing)

    def _give_way(self, loaded: Any, missing: int) -> int:
        model = loaded.model.model
        streamed = self.of(model)
        if streamed is None:
            streamed = self._split_resident(loaded, missing)
        if streamed is None:
            return 0
        try:
            gone = streamed.split.give_way(missing)
        except WeightsError as error:
            log.warning("%s cannot give way (%s); the WebUI unloads it", _name(model), error)
            return 0
        if gone:
            streamed.choose_source(_manager().PIN_SHARED_MEMORY)
            loaded.model_accelerated = True  # so that the host takes its marks off when it unloads the model
            self._tell(model, streamed, f"{in_words(missing)} were needed")
        return gone

    def give_way_now(self, model: torch.nn.Module, size: int) -> int:
        """A computation ran out of memory: units of the model leave. Returns bytes."""
        for loaded in _manager().current_loaded_models:
            if loaded.model.model is model and is_card(loaded.device):
                return self._give_way(loaded, size)
        return 0

    def _come_back(self, model: torch.nn.Module, beside: Collection[torch.nn.Module], need: int) -> None:
        streamed = self.of(model)
        if streamed is None:
            return
        manager, device = _manager(), streamed.device
        if streamed.split.streaming and hasattr(model, "diffusion_model"):
            others = {id(one) for one in beside}
            self._make_room(need + streamed.split.streaming, device, lambda one: id(one) not in others)
        self._fit(streamed, int(manager.get_free_memory(device)) - need, model)
        streamed.measure()

    def _fit(self, streamed: Streamed, spare: int, model: torch.nn.Module) -> None:
        """Let stay what fits into `spare` bytes besides what stays already."""
        split, stream = streamed.split, streamed.stream
        room = split.staying + spare + stream.held
        whole = split.staying + split.streaming
        try:
            split.fit(whole if room >= whole else max(0, room - stream.ring))
        except WeightsError as error:
            log.info("%s: %s; what did not come streams", _name(model), error)

    # Splitting.

    def _split(self, model: torch.nn.Module, device: Any, offload_device: Any) -> Streamed | None:
        """A model that the host is loading and that does not fit; None where the host swaps it by itself."""
        loads: Loading | None = getattr(self._thread, "loads", None)
        if offload_device != CPU or getattr(self._thread, "saving", False):
            return None
        if sum(tensor.nbytes for tensor in model.parameters()) < LEAST_MODEL:
            return None
        need = loads.need if loads is not None else int(_manager().minimum_inference_memory())
        known: Known = self._thread.known
        streamed = None
        try:
            spare = int(_manager().get_free_memory(device)) - need
            streamed = Streamed(model, device, self._means(device), spare, self._timed.get(model))
            streamed.flags = False  # the host sets them itself
            streamed.split.set_merges(known.merges)
            least = self._at_home(model) - streamed.split.streaming + streamed.stream.ring
            if least > spare + need - QUIET:
                raise _NoRoom(f"{in_words(least)} of it cannot be streamed")
            skipped = self._placement.load(model, device, streamed.always).skipped
            if not skipped:
                self._fit(streamed, int(_manager().get_free_memory(device)) - need, model)
                streamed.choose_source(_manager().PIN_SHARED_MEMORY)
        except (WeightsError, ValueError, RuntimeError) as error:
            skipped = (str(error),)
        if streamed is None or skipped:
            log.warning("%s: not streamed (%s); the WebUI swaps by itself", _name(model), skipped[0])
            if streamed is not None:
                streamed.close()
                self._loras.dropped(model, streamed.split)
            return None
        self._streamed[model] = streamed
        self._loras.are_in(model, known)
        free = f"{in_words(max(0, spare + need))} were free and {in_words(need)} are for inference"
        self._tell(model, streamed, free)
        return streamed

    def _split_resident(self, loaded: Any, missing: int) -> Streamed | None:
        """A model that is on the card as a whole, by us, of which only a part has to leave."""
        model = loaded.model.model
        loader: Any = getattr(model, "lora_loader", None)
        resident = {*self._placement.of(model).resident, *(getattr(loader, "backup", None) or ())}
        names = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
        own = sum(tensor.nbytes for tensor in model.parameters())
        if not names <= resident or own < LEAST_MODEL or loaded.model.offload_device != CPU:
            return None
        if missing >= own or not self._loras.can_split(model):
            return None
        try:
            streamed = Streamed(model, loaded.device, self._means(loaded.device), own, self._timed.get(model))
        except ValueError:
            return None
        streamed.split.set_merges(self._loras.known(model).merges)
        self._streamed[model] = streamed
        return streamed

    def _means(self, device: torch.device) -> Means:
        if device not in self._timelines:
            found = timeline_for(device, _host_streams)
            if found is None:
                raise ValueError(f"there is no way to stream to {device}")
            self._timelines[device] = found
        timeline = self._timelines[device]
        direct = self._direct if device.type == "cuda" and self.registers else None
        return Means(self._placement, timeline, direct, timeline.pinned)

    def _rest(self, kept: Collection[int]) -> None:
        for model, streamed in list(self._streamed.items()):
            if id(model) not in kept:
                streamed.stream.rest()

    def _look_again(self, model: torch.nn.Module) -> None:
        streamed = self.of(model)
        if streamed is not None:
            streamed.look_again()
            if streamed.timed is not None:
                self._timed[model] = streamed.timed

    def _let_all_go(self) -> None:
        """Every split model leaves the device: at home it is as the host would have it, without a LoRA."""
        self._unload(list(self._streamed))

    def _unload(self, models: Collection[torch.nn.Module]) -> None:
        current = _manager().current_loaded_models
        wanted = {id(model) for model in models}
        for loaded in [each for each in current if id(each.model.model) in wanted]:
            current.remove(loaded)
            loaded.model_unload()
        for model in models:
            self.drop(model)

    def _tell(self, model: torch.nn.Module, streamed: Streamed, because: str) -> None:
        name, sentence = _name(model), streamed.sentence()
        if self._said.get(name) != sentence:
            self._said[name] = sentence
            log.info("%s: %s, because %s", name, sentence, because)


def _manager() -> Any:
    return sys.modules[MANAGER]


def is_card(device: Any) -> bool:
    """A device that is not home, and that weights can be streamed to."""
    return device is not None and device != CPU and device.type in KINDS


def _name(model: torch.nn.Module) -> str:
    return COMPONENTS.get(type(model).__name__, type(model).__name__)


def _host_streams() -> list[Any]:
    """Where the host's manual cast works with weights, besides the current stream."""
    stream: Any = sys.modules.get("backend.stream")
    return [stream.mover_stream] if stream is not None and stream.should_use_stream() else []
