"""Models that do not fit on the card, in Forge: in place of its swapping, and of its unloading of whole models.

What streams is marked as the host marks what it swaps, and lies at home where the host would have it. So wherever
streaming cannot or must not be, the host moves weights by itself and computes the same.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch

from ...patching.change import Call, Change, Function
from ...weights.errors import let_go
from ...weights.residency.placement import Placement
from ...weights.transfer.direct import Direct
from ..common.engine import CPU
from .decoding_memory import DecodingMemory
from .merged import is_hosts, take_back
from .need import MANAGER, Loading, free, is_card, manager
from .room import Room
from .sampling_memory import SamplingMemory
from .split_models import SplitModels, pushes
from .streamed_pass import Passes

PATCHER = "backend.patcher.base"
ENGINE = "backend.diffusion_engine.base"


@dataclass
class Placed:
    """What stands in a profile for all that we have put where it is, and marked: the host finds nothing to move."""

    total_mem: int
    parameters_manual_cast: bool = False

    def to(self, _device: Any) -> None:
        return None


class Streaming:
    """The wrapped functions of one process."""

    def __init__(self, placement: Placement, direct: Direct) -> None:
        self.models = SplitModels(placement, direct)
        self._room = Room(self.models)
        self._thread = threading.local()
        self._swapped: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()  # by the host itself

    def changes(self) -> list[Change]:
        passes = Passes(self._room.make_now)
        sampling = SamplingMemory(self.models)

        def around_pass(original: Callable[..., Any]) -> Callable[..., Any]:
            return sampling.around_pass(passes.wrap(original))

        def refresh(original: Callable[..., Any]) -> Callable[..., Any]:
            return self.models.loras.wrap_refresh(original, self._room_beside_load)

        return [
            *sampling.changes(),
            Call(lambda: self._let_all_go),
            Function(MANAGER, "load_models_gpu", self._wrap_load_models),
            Function(MANAGER, "free_memory", self._wrap_free_memory),
            Function(MANAGER, "LoadedModel.model_load", self._wrap_model_load),
            Function(MANAGER, "build_module_profile", self._wrap_profile),
            Function(MANAGER, "bake_gguf_model", self._wrap_bake),
            Function(PATCHER, "ModelPatcher.forge_unpatch_model", self._wrap_unpatch),
            # Asked at every layer: nothing stands around it, and nothing in it can fail.
            Function("backend.stream", "should_use_stream", self._wrap_should_use_stream, guarded=False),
            Function("backend.patcher.lora", "LoraLoader.refresh", refresh, guarded=False),
            Function("backend.modules.k_model", "KModel.apply_model", around_pass, guarded=False),
            *passes.encodings(),
            Function(ENGINE, "ForgeDiffusionEngine.save_unet", self._wrap_save, guarded=False),
            Function(ENGINE, "ForgeDiffusionEngine.save_checkpoint", self._wrap_save, guarded=False),
            # Around the rest: what we ask for in a load is not asked by the host.
            *DecodingMemory(self.models, self._room.make).changes(),
        ]

    def _room_beside_load(self, size: int) -> int:
        return self._room.make_now(size, getattr(self._thread, "loading", None))

    def sentence(self, model: torch.nn.Module) -> str:
        """What of it stays and what streams; empty where it does not stream."""
        found = self.models.of(model)
        return found.sentence() if found is not None and self._streams(model) else ""

    def _wrap_load_models(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_models_gpu(
            models: Any, memory_required: float = 0, hard_memory_preservation: float = 0
        ) -> Any:
            loading = Loading.of(models, memory_required, hard_memory_preservation)
            before, self.models.loads = self.models.loads, loading
            try:
                self.models.rest({id(patcher.model) for patcher in models})
                for patcher in models:
                    self.models.look_again(patcher.model)
                done = original(models, memory_required, hard_memory_preservation)
                for patcher in models:
                    self._room.come_back(patcher.model, [each.model for each in models])
            finally:
                self.models.loads = before
            return done

        return load_models_gpu

    def _wrap_free_memory(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def free_memory(
            memory_required: float, device: Any, keep_loaded: Any = (), free_all: bool = False
        ) -> Any:
            host = manager()
            everything = host.ALWAYS_VRAM_OFFLOAD or host.vram_state == host.VRAMState.NO_VRAM
            if free_all or everything or not is_card(device):
                done = original(memory_required, device, keep_loaded, free_all)
                if is_card(device):
                    self._room.let_forgotten_go(memory_required, device)
                return done
            wanted = self._room.wanted(memory_required, device)
            kept = {id(loaded.model.model) for loaded in keep_loaded}
            self.models.rest(kept)
            self._room.make(wanted, device, lambda model: id(model) not in kept)
            done = original(wanted, device, keep_loaded, free_all)
            self._room.let_forgotten_go(wanted, device)
            # One in use stays whole where the host alone would leave it so, for want of a little.
            loading = self.models.loading()
            short = free(device) < wanted - (loading.need - loading.whole)
            self._room.make(
                wanted,
                device,
                lambda model: id(model) in kept and (short or self._streams(model)),
            )
            return done

        return free_memory

    def _streams(self, model: torch.nn.Module) -> bool:
        found = self.models.of(model)
        return found is not None and found.split.streaming > 0

    def _wrap_model_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def model_load(loaded: Any, model_gpu_memory_when_using_cpu_swap: Any = -1) -> Any:
            model = loaded.model.model
            loader = getattr(model, "lora_loader", None)
            if is_hosts(loader):
                take_back(loader)  # weights that the host itself has merged into are no clean ones to bring
            self._thread.known = self.models.loras.known(model)
            self.models.drop(model)
            self._swapped.discard(model)
            host = manager()
            pinned = host.PIN_SHARED_MEMORY
            self._thread.loading = loaded
            try:
                return original(loaded, model_gpu_memory_when_using_cpu_swap)
            except BaseException as error:
                # It is in no list of the host's: nobody else would take off the card what has come of it.
                let_go(error)
                with contextlib.suppress(Exception):
                    loaded.model_unload()
                raise
            finally:
                self._thread.loading = None
                host.PIN_SHARED_MEMORY = pinned

        return model_load

    def _wrap_profile(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def build_module_profile(model: Any, model_gpu_memory_when_using_cpu_swap: Any) -> Any:
            loaded = getattr(self._thread, "loading", None)
            streamed = None
            if loaded is not None and loaded.model.model is model and self._may(loaded):
                one_pass = not pushes(self.models, model)
                streamed = self.models.split_loading(
                    model, loaded.device, self._thread.known, one_pass=one_pass
                )
            if streamed is None:
                self._swapped.add(model)
                return original(model, model_gpu_memory_when_using_cpu_swap)
            manager().PIN_SHARED_MEMORY = False  # until the load is over: ours are where they are to be read
            return [Placed(streamed.resident)], [], [Placed(streamed.split.streaming)]

        return build_module_profile

    def _wrap_bake(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def bake_gguf_model(model: Any) -> Any:
            # On the card it is done; at home it would take RAM.
            return original(model) if self.models.of(model) is None else None

        return bake_gguf_model

    def _may(self, loaded: Any) -> bool:
        saving = getattr(self._thread, "saving", False)
        return is_card(loaded.device) and loaded.model.offload_device == CPU and not saving

    def _wrap_unpatch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forge_unpatch_model(patcher: Any, target_device: Any = None) -> Any:
            if target_device is not None:
                self.models.drop(patcher.model)
                self._swapped.discard(patcher.model)
            return original(patcher, target_device)

        return forge_unpatch_model

    def _wrap_should_use_stream(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def should_use_stream() -> Any:
            """Only for what the host swaps by itself. Elsewhere all is on the card when it is needed: the host's
            stream would only cast ahead, and keep all it has cast, for which a full card has no room."""
            return original() and len(self._swapped) > 0 and not self.models.any_streams()

        return should_use_stream

    def _wrap_save(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def save(engine: Any, filename: str) -> Any:
            """What is written must have the LoRA in it: nothing streams meanwhile."""
            self._unload(self.models.all())
            self._thread.saving = True
            try:
                return original(engine, filename)
            finally:
                self._thread.saving = False

        return save

    def _let_all_go(self) -> None:
        """Every split model leaves the device: at home it is as the host would have it, without a LoRA."""
        self._unload(self.models.all())

    def _unload(self, models: Collection[torch.nn.Module]) -> None:
        current = manager().current_loaded_models
        wanted = {id(model) for model in models}
        for loaded in [each for each in current if id(each.model.model) in wanted]:
            current.remove(loaded)
            loaded.model_unload()
        self._room.let_forgotten_go(float("inf"), manager().get_torch_device())
        for model in models:
            self.models.drop(model)
