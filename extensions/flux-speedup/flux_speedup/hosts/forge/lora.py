"""LoRA changes without copies of clean weights: what is on the device has its clean bytes in its file.

`LoraLoader.refresh` of the host copies every weight it merges into to RAM first, and moves the copies back one
by one at the next change. Ours reads the clean weights anew and merges into them: the same arithmetic on the
same bytes on the same device. Whatever it cannot do so (weights at home, quantised ones) is the host's.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from ...patching.change import Declined
from ...weights.errors import WeightsError
from ...weights.residency.placement import Placement
from ...weights.residency.residency import Residency
from .engine import patchers_of

# What `refresh` sets when merged weights were dropped: equal to no list of LoRAs.
DROPPED = "merged weights were dropped with the model"
# sha256 of the source of LoraLoader.refresh, white space aside, that ours was written against.
KNOWN_SOURCES = frozenset({"01030f93f236364cd71b9eb79d83f048979e7a9520cf60075aef51489a386810"})
log = logging.getLogger("flux_speedup")


class Merges:
    """`LoraLoader.refresh`, as a whole."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement

    def wrap_refresh(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Raises Declined where the host's source is not the one this was written against."""
        found = fingerprint(original)
        if found not in KNOWN_SOURCES:
            raise Declined(f"LoraLoader.refresh of this Forge is unknown ({found[:12]}); its own is used")
        merge = _host_merge()

        @torch.inference_mode()
        def refresh(
            loader: Any, lora_patches: Any, offload_device: Any = None, force_refresh: bool = False
        ) -> Any:
            offload_device = torch.device("cpu") if offload_device is None else offload_device
            hashes = str(list(lora_patches.keys()))
            if hashes == loader.loaded_hash and not force_refresh:
                return None
            residency = self._placement.of(loader.model)
            if not _can(residency, loader, lora_patches):
                self._make_clean(residency)
                residency.undo_casts()
                return original(loader, lora_patches, offload_device, force_refresh=True)
            try:
                self._make_clean(residency)
                _merge_all(residency, loader, lora_patches, merge)
            except (RuntimeError, MemoryError, WeightsError) as error:
                log.warning("merging a LoRA failed (%s); falling back to the WebUI's own way", error)
                self._make_clean(residency)
                loader.loaded_hash = DROPPED
                return original(loader, lora_patches, offload_device, force_refresh=True)
            loader.loaded_hash = hashes
            return None

        return refresh

    def wrap_save(self, whole: bool, original: Callable[..., Any]) -> Callable[..., Any]:
        """A save after an unload sees merged weights, as the host's would: they are merged again first.

        `whole`: all of the model is saved, and not only the transformer.

        It goes through a temporary file: the file saved over may be the one that the weights live in, and
        truncating that would end every process that maps it.
        """

        def save(engine: Any, filename: str) -> str:
            from backend import memory_management

            for patcher in (engine.forge_objects.unet, engine.forge_objects.clip.patcher):
                if patcher.lora_loader.loaded_hash == DROPPED and patcher.lora_patches:
                    memory_management.load_model_gpu(patcher)
            for patcher in patchers_of(engine) if whole else [engine.forge_objects.unet]:
                self._placement.of(patcher.model).undo_casts()
            target = Path(filename)
            partial = target.with_name(f"{target.name}.{os.getpid()}.part")
            try:
                original(engine, str(partial))
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
            return filename

        return save

    def _make_clean(self, residency: Residency) -> None:
        """Read anew whatever we had merged into; where that fails, everything goes home, where it is clean."""
        merged = residency.merged
        if not merged:
            return
        try:
            residency.reload(residency.device, merged)
        except WeightsError as error:
            log.warning("clean weights cannot be read back to the device (%s); the model is unloaded", error)
            residency.unload()


def note_unload(module: torch.nn.Module, merged: Iterable[str]) -> None:
    """Merged weights of a module were dropped: its next `refresh` must merge again."""
    loader = getattr(module, "lora_loader", None)
    if loader is not None and any(True for _ in merged):
        loader.loaded_hash = DROPPED


def fingerprint(function: Callable[..., Any]) -> str:
    """sha256 of a function's source without white space, or "no source"."""
    try:
        source = inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        return "no source"
    return hashlib.sha256("".join(source.split()).encode()).hexdigest()


def _host_merge() -> Callable[..., torch.Tensor]:
    from backend.patcher import lora

    merge: Callable[..., torch.Tensor] = lora.merge_lora_to_weight
    return merge


def _can(residency: Residency, loader: Any, lora_patches: Any) -> bool:
    """Whether every weight concerned is on the device by our doing, and nothing is left of the host's way."""
    if loader.backup or loader.online_backup or any(online for (_, _, _, online) in lora_patches):
        return False
    resident = frozenset(residency.resident)
    return bool(resident) and all(key in resident for patches in lora_patches.values() for key in patches)


def _merge_all(
    residency: Residency, loader: Any, lora_patches: Any, merge: Callable[..., torch.Tensor]
) -> None:
    by_key: dict[str, list[Any]] = {}
    for patches in lora_patches.values():
        for key, current in patches.items():
            by_key.setdefault(key, []).extend(current)
    mark = residency.marker()
    for key, current in by_key.items():
        parameter = loader.model.get_parameter(key)
        parameter.data = merge(current, parameter, key, computation_dtype=torch.float32)
        mark(key)
