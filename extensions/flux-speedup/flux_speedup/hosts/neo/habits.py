"""What keeping a built model takes to know of Forge Neo."""

from __future__ import annotations

from typing import Any

from ...weights.errors import WeightsError
from ..common.built import managed_settings
from ..common.engine import CPU

# Of what is kept for the whole process, that which no build sets.
NOT_BUILT = {"online_lora", "ref_latents", "concat_latent", "lq_latent", "is_referencing", "loading_refiner"}
NOT_BUILT |= {"last_extra_generation_params"}


class NeoHabits:
    """LoRAs are in patchers that share one backup; what is built globally is in one class."""

    def settings(self, parameters: dict[str, Any]) -> dict[str, object]:
        from backend import memory_management as manager
        from backend.args import args

        return managed_settings(manager, args)

    def noted(self) -> dict[str, Any]:
        from backend.args import dynamic_args

        if dynamic_args.nunchaku:
            raise WeightsError(None, "Nunchaku reads and moves its weights by itself")
        names = [name for name in dynamic_args.__annotations__ if name not in NOT_BUILT]
        return {name: getattr(dynamic_args, name) for name in names}

    def patcher_as_built(self, patcher: Any) -> None:
        return None

    def reset(self, patcher: Any, as_built: None) -> None:
        return None

    def check(self, engine: Any) -> None:
        if getattr(engine, "end_image", None) is not None:
            raise WeightsError(None, "it has a last frame, which the WebUI hands on to the next model")

    def take_off(self, patcher: Any) -> None:
        patched = patcher.backup or patcher.object_patches_backup
        # What the manager has just unloaded would be looked through once more, part by part.
        if patched or patcher.current_device != CPU or patcher.loaded_size():
            patcher.unpatch_model(CPU)

    def in_use(self, engine: Any, parameters: dict[str, Any], noted: dict[str, Any]) -> None:
        from backend.args import dynamic_args
        from modules import processing, sd_models, shared

        dynamic_args.reset()
        for name, value in noted.items():
            setattr(dynamic_args, name, value)
        last_frame = getattr(getattr(shared, "sd_model", None), "end_image", None)
        if last_frame is not None:
            engine.end_image = last_frame.clone()
        sd_models.model_data.set_sd_model(engine)
        shared.sd_model = engine
        ratio = engine.forge_objects.vae.upscale_ratio
        processing.opt_f = ratio if isinstance(ratio, int) else 8
