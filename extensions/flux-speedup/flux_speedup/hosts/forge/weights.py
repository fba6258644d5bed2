"""Attaches the weights room to Forge: files are mapped by us, models come to the device and leave it by us.

Everywhere ours comes first and the host's own follows: it finds nothing left to do where ours did it, and does
everything where ours could not.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from ...patching.change import Call, Change, Function
from ...patching.guard import meant
from ...weights.errors import WeightsError
from ...weights.named import all_names
from ...weights.residency.placement import Placement
from ...weights.transfer.lane import LANES
from ..common import corrupted, saving
from ..common.engine import CPU
from ..common.timing import name_of
from ..common.written_over import WrittenOver, forbid
from . import four_bit, gguf_files, gguf_weights
from .lora import Merges
from .merged import is_merged, take_back
from .pinning import Pinning
from .saving import wrap_save
from .sources import Sources

MANAGER = "backend.memory_management"
PATCHER = "backend.patcher.base"
ENGINE = "backend.diffusion_engine.base"
log = logging.getLogger("flux_speedup")


class Attachment:
    """The wrapped functions of one process; what they must tell each other is kept by thread."""

    def __init__(self, placement: Placement, kinds: Collection[str] = LANES) -> None:
        self._placement = placement
        self._kinds = kinds
        self._pinning = Pinning()
        self._written_over = WrittenOver(placement)
        self._thread = threading.local()

    @property
    def placement(self) -> Placement:
        return self._placement

    def was_built_from_files(self) -> bool:
        """Whether every file of the build that this thread has just made was mapped by us. Answers once."""
        return bool(self._thread.__dict__.pop("all_ours", False))

    def changes(self) -> list[Change]:
        merges = Merges(self._placement)
        sources = Sources(self._placement, self._is_streamed)
        return [
            *self._written_over.changes(),
            *([*gguf_files.changes(), *gguf_weights.changes()] if _knows_gguf() else ()),
            *four_bit.changes(self._placement.registry),
            *corrupted.changes(lambda: self._placement.registry.make_room()),
            Function("backend.loader", "load_state_dict", sources.wrap_load_state_dict),
            Function("modules.sd_models", "forge_loader", sources.wrap_loader),
            Function("backend.loader", "load_torch_file", self._wrap_load_file),
            *saving.changes(self._placement.registry),
            Function("backend.loader", "split_state_dict", self._wrap_split),
            Function(MANAGER, "unet_inital_load_device", self._wrap_initial_device),
            Function(MANAGER, "LoadedModel.model_load", self._wrap_model_load),
            Function(MANAGER, "build_module_profile", self._wrap_profile),
            Function(PATCHER, "ModelPatcher.forge_patch_model", self._wrap_patch),
            Function(PATCHER, "ModelPatcher.forge_unpatch_model", self._wrap_unpatch),
            Function("backend.patcher.lora", "LoraLoader.refresh", merges.wrap_refresh, guarded=False),
            Function(ENGINE, "ForgeDiffusionEngine.save_unet", wrap_save, guarded=False),
            Function(ENGINE, "ForgeDiffusionEngine.save_checkpoint", wrap_save, guarded=False),
            # Put back first, while the others are in force.
            Call(lambda: self.bring_home, module=MANAGER),
        ]

    # Files.

    def _wrap_load_file(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_torch_file(ckpt: Any, safe_load: bool = False, device: Any = None) -> Any:
            views = self._views(ckpt) if device is None or device == CPU else None
            self._thread.all_ours = getattr(self._thread, "all_ours", True) and views is not None
            return original(ckpt, safe_load, device) if views is None else views

        return load_torch_file

    def _views(self, file: Any) -> dict[str, torch.Tensor] | None:
        suffix = Path(str(file)).suffix.lower()
        if suffix not in (".safetensors", *gguf_files.SUFFIXES):
            return None
        try:
            if suffix in gguf_files.SUFFIXES:
                return gguf_files.views(self._placement.registry, str(file))
            return self._placement.registry.open(file).views()
        except WeightsError as error:
            if self._written_over.rebuilding:
                raise meant(error)  # noqa: B904 - the host alone would not read this file now
            log.warning("%s; falling back to the WebUI's loader", error)
            return None

    def _wrap_split(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def split_state_dict(*args: Any, **kwargs: Any) -> Any:
            self._thread.all_ours = True
            return original(*args, **kwargs)

        return split_state_dict

    def _wrap_initial_device(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def unet_inital_load_device(parameters: Any, dtype: Any) -> Any:
            # Built on the device, weights would be copies there; built at home they stay views of the file.
            if getattr(self._thread, "all_ours", False):
                return CPU
            return original(parameters, dtype)

        return unet_inital_load_device

    # Moves.

    def _wrap_model_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def model_load(loaded: Any, *args: Any, **kwargs: Any) -> Any:
            self._thread.loaded = loaded
            try:
                with self._pinning.during_load(_manager()):
                    return original(loaded, *args, **kwargs)
            finally:
                self._thread.loaded = None

        return model_load

    def _wrap_profile(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def build_module_profile(model: Any, model_gpu_memory_when_using_cpu_swap: Any) -> Any:
            profile = original(model, model_gpu_memory_when_using_cpu_swap)
            loaded = getattr(self._thread, "loaded", None)
            if loaded is not None and self._is_streamed(loaded.device):
                whole, extras, _ = profile
                names, others = _names(model, whole, extras)
                # The host would copy these to RAM.
                self.unload(model, others)
                self._load(model, loaded.device, names)
                self._pinning.others(_manager(), loaded, names)
            return profile

        return build_module_profile

    def _wrap_patch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forge_patch_model(patcher: Any, target_device: Any = None) -> Any:
            # Without moving: what is patched in goes to the device with everything else.
            patched = original(patcher)
            if target_device is None:
                return patched
            if self._is_streamed(target_device) and self._load(patcher.model, target_device, None):
                patcher.current_device = target_device
                return patched
            return original(patcher, target_device)

        return forge_patch_model

    def _wrap_unpatch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forge_unpatch_model(patcher: Any, target_device: Any = None) -> Any:
            if target_device is None or not self.unload(patcher.model):
                return original(patcher, target_device)
            # In HIGH_VRAM the host names the GPU here, and eviction would free nothing.
            return original(patcher, CPU)

        return forge_unpatch_model

    def _load(self, model: torch.nn.Module, device: Any, names: set[str] | None) -> bool:
        """Whether every weight asked for is on the device now."""
        forbid(model, self._placement)
        try:
            return not self._placement.load(model, device, names).skipped
        except Exception as error:
            forbid(model, self._placement)
            # Whatever it is: the host has done its part already, so that no guard would let it move the model.
            log.warning("%s: %s; falling back to the WebUI's own move", type(model).__name__, error)
            return False

    def unload(self, model: torch.nn.Module, names: Collection[str] | None = None) -> bool:
        """Let weights go that are on the device by our doing, merged ones too; whether there were any and they
        are gone, clean."""
        taken = take_back(getattr(model, "lora_loader", None), names)
        if not taken.count and not self._placement.of(model).away:
            return False
        try:
            report = self._placement.unload(model, names, besides=taken.bytes)
        except WeightsError as error:
            log.warning("%s: %s; falling back to the WebUI's own move", type(model).__name__, error)
            return False
        gguf_weights.to_be_baked(model)
        if report.copied_back:
            # The host itself makes CLIP's embeddings fp32 at their first use.
            log.info(
                "%s: weights were changed on the device and are kept in RAM from now on: %d",
                name_of(model),
                len(report.copied_back),
            )
        return bool(taken.count or report.bytes)

    def bring_home(self) -> None:
        """Nothing is on a device by our doing any longer, and nothing is merged: before our functions go."""
        if not self._away():
            return
        _manager().unload_all_models()
        for module in self._away():  # what the host has forgotten
            self.unload(module)

    def _away(self) -> list[torch.nn.Module]:
        placement = self._placement
        return [each for each in placement.modules() if placement.of(each).away or is_merged(each)]

    def _is_streamed(self, device: Any) -> bool:
        """A device that is not home, and that weights can be streamed to."""
        return device is not None and device != CPU and device.type in self._kinds


def _knows_gguf() -> bool:
    """Whether this host has classes for GGUF files; it may not have imported them yet."""
    try:
        return importlib.util.find_spec(gguf_weights.PARAMETERS) is not None
    except (ImportError, ValueError):  # not a package, or one without a specification
        return gguf_weights.PARAMETERS in sys.modules


def _manager() -> Any:
    from backend import memory_management

    return memory_management


def _names(
    model: torch.nn.Module, whole: Iterable[torch.nn.Module], extras: Iterable[torch.nn.Module]
) -> tuple[set[str], set[str]]:
    """Names of the weights that a profile puts on the device, and of those that it keeps in RAM.

    On the device: all of `whole`, all but `weight` of `extras`; in RAM: the rest of what it goes through.
    """
    wanted = {id(tensor) for module in whole for tensor in (*module.parameters(), *module.buffers())}
    for module in extras:
        wanted |= {id(p) for name, p in module.named_parameters(recurse=False) if name != "weight"}
    named = list(chain(*all_names(model)))
    names = {name for name, tensor in named if id(tensor) in wanted}
    return names, {name for name, _ in named} - names
