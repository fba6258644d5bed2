"""Saving a model from Forge: what is written has the LoRA in it, and no file that weights live in is truncated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...storage.beside import beside
from ..common.saving import real
from .merged import DROPPED


def wrap_save(original: Callable[..., Any]) -> Callable[..., Any]:
    """A save after an unload sees merged weights, as the host's would: they are merged again first.

    It goes through a temporary file: the file saved over may be the one that the weights live in, and truncating
    that would end every process that maps it. A link stays one; what it leads to is replaced.
    """

    def save(engine: Any, filename: str) -> str:
        from backend import memory_management

        for patcher in (engine.forge_objects.unet, engine.forge_objects.clip.patcher):
            if patcher.lora_loader.loaded_hash == DROPPED and patcher.lora_patches:
                memory_management.load_model_gpu(patcher)
        target = real(filename)
        partial = beside(target, "part")
        try:
            original(engine, str(partial))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return filename

    return save
