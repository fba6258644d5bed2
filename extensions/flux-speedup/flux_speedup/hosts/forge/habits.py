"""What keeping a built model takes to know of Forge."""

from __future__ import annotations

from typing import Any

from ..common.built import managed_settings
from ..common.engine import CPU
from .weights import Attachment


class ForgeHabits:
    """LoRAs are in a loader on the module; what is built globally is in one dictionary."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment

    def settings(self, parameters: dict[str, Any]) -> dict[str, object]:
        from backend import memory_management as manager
        from backend.args import args

        return managed_settings(manager, args)

    def noted(self) -> None:
        return None

    def patcher_as_built(self, patcher: Any) -> Any:
        return getattr(patcher, "current_device", None)

    def reset(self, patcher: Any, as_built: Any) -> None:
        patcher.current_device = as_built
        loader = getattr(patcher.model, "lora_loader", None)
        if loader is not None:
            loader.loaded_hash = str([])

    def check(self, engine: Any) -> None:
        return None

    def take_off(self, patcher: Any) -> None:
        self._attachment.unload(patcher.model)
        loader = getattr(patcher.model, "lora_loader", None)
        if loader is not None and (loader.backup or loader.online_backup):
            loader.refresh({}, CPU)

    def in_use(self, engine: Any, parameters: dict[str, Any], noted: Any) -> None:
        from backend.args import dynamic_args
        from modules import sd_models, shared

        dynamic_args["forge_unet_storage_dtype"] = parameters.get("unet_storage_dtype")
        dynamic_args["embedding_dir"] = shared.cmd_opts.embeddings_dir
        dynamic_args["emphasis_name"] = shared.opts.emphasis
        sd_models.model_data.set_sd_model(engine)
