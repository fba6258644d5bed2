"""What a user of a Forge does with checkpoints, on its own loader, engines and memory manager in this process."""

from __future__ import annotations

import hashlib
import traceback
from pathlib import Path
from typing import Any

import torch

from tests.attacks.files_of_models import CHECKPOINTS, path_of
from tests.second_device import CARD, used

GIB, MIB = 1 << 30, 1 << 20
TEXT = 40_000_000  # bytes that have room where the text encoders do not fit


def built(file: Path, modules: list[Path]) -> Any:
    """What the WebUI makes of files."""
    from modules import sd_models

    sd_models.model_data.forge_loading_parameters = {
        "checkpoint_info": sd_models.CheckpointInfo(str(file)),
        "additional_modules": [str(path) for path in modules],
        "unet_storage_dtype": None,
    }
    return sd_models.forge_model_reload()[0]


class Session:
    """What a user of this WebUI does, in turns."""

    def __init__(self, manager: Any, folder: Path) -> None:
        self._manager, self._folder = manager, folder
        self.stayed: list[bool] = []

    def choose(self, name: str) -> Any:
        """The engine of a checkpoint, as the WebUI builds it. A VAE is in bf16, as on cards of these years, but for
        those of real size where the processor has no instructions for it: a convolution takes minutes there.
        """
        chosen = CHECKPOINTS[name]
        fast = "vae" in chosen.modules or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self._manager.VAE_DTYPES = [*([torch.bfloat16] if fast else []), torch.float32]
        return built(self._folder / chosen.file, [path_of(self._folder, each) for each in chosen.modules])

    def image(self, name: str, lora: int = 0, room: int = GIB, text_room: int = GIB) -> str:
        """A digest of what comes out of text encoder, transformer and VAE."""
        engine = self.choose(name)
        self._manager.room = text_room
        engine.forge_objects = engine.forge_objects_original.shallow_copy()
        if lora:
            engine.forge_objects.unet = engine.forge_objects.unet.clone()
            patches = lora_for(engine.forge_objects.unet.model, lora)
            engine.forge_objects.unet.add_patches(filename=f"lora-{lora}", patches=patches)
        from modules.prompt_parser import SdConditioning

        with torch.inference_mode():
            made = engine.get_learned_conditioning(
                SdConditioning(["a cat"], width=64, height=64, distilled_cfg_scale=3.5)
            )
            made = made if isinstance(made, dict) else {"crossattn": made}
            random = torch.Generator().manual_seed(5)
            channels = CHECKPOINTS[name].channels
            x = torch.randn((1, channels, 8, 8), generator=random).to(CARD)
            self._manager.room = room
            self._manager.load_models_gpu([engine.forge_objects.unet])
            self._manager.room = GIB
            more = {
                {"vector": "y"}.get(key, key): part.to(CARD)
                for key, part in made.items()
                if key != "crossattn"
            }
            at = torch.tensor([0.7], device=CARD)
            model = engine.forge_objects.unet.model
            x = model.apply_model(x, at, c_crossattn=made["crossattn"].to(CARD), **more)
            answer = engine.decode_first_stage(x.float())
        return " ".join(map(digest, (made["crossattn"], x, answer)))

    def story(self, name: str) -> list[str]:
        """Loaded, with a LoRA and without, others wanting room in between; unloaded, and again on a card that is
        too small for either model."""
        self.stayed = []
        try:
            seen = [self.image(name)]
            self.others_need_room()
            seen.append(self.image(name, lora=1))
            self.others_need_room()
            seen.append(self.image(name))
            self.unload()
            seen.append(self.image(name, lora=1, room=self.small(), text_room=used() + TEXT))
        except Exception as error:
            traceback.print_exc()
            seen = [f"{type(error).__name__}: {str(error)[:200]}"]
        self.unload()
        return seen

    def others_need_room(self) -> None:
        """A third of the transformer's bytes are wanted on a full card; `stayed` gets whether it was kept."""
        model = self._transformer()
        with torch.inference_mode():
            for loaded in [
                each for each in self._manager.current_loaded_models if each.model.model is not model
            ]:
                self._manager.current_loaded_models.remove(loaded)
                loaded.model_unload()
            self._manager.room = used() + (1 << 12)
            self._manager.free_memory(self._manager.module_size(model) // 3, CARD)
        self._manager.room = GIB
        self.stayed.append(any(each.model.model is model for each in self._manager.current_loaded_models))

    def small(self) -> int:
        """Bytes of a card that has room for half of the transformer, and for whatever else is there."""
        return used() + self._manager.module_size(self._transformer()) // 2

    def _transformer(self) -> torch.nn.Module:
        from modules import sd_models

        found: torch.nn.Module = sd_models.model_data.sd_model.forge_objects.unet.model
        return found

    def at_once(self, name: str, mb: int) -> list[tuple[str, int]]:
        """How many of four images are decoded and encoded at once, on a card of so many MB, with the transformer in
        turns. What they come to is not computed.
        """
        engine, seen = self.choose(name), list[tuple[str, int]]()
        engine.forge_objects = engine.forge_objects_original.shallow_copy()
        self.unload()
        kind = type(engine.forge_objects.vae.first_stage_model)
        computed = kind.decode, kind.encode

        def decode(_: Any, z: torch.Tensor) -> torch.Tensor:
            seen.append(("decode", len(z)))
            return z.new_zeros((len(z), 3, 8 * z.shape[2], 8 * z.shape[3]))

        def encode(_: Any, x: torch.Tensor, *_more: Any) -> torch.Tensor:
            seen.append(("encode", len(x)))
            return x.new_zeros((len(x), CHECKPOINTS[name].channels, x.shape[2] // 8, x.shape[3] // 8))

        kind.decode, kind.encode = decode, encode
        self._manager.room = used() + mb * MIB
        try:
            with torch.inference_mode():
                for _ in range(2):
                    self._manager.load_models_gpu([engine.forge_objects.unet])
                    latents = torch.zeros((4, CHECKPOINTS[name].channels, 8, 8), device=CARD)
                    engine.encode_first_stage(engine.decode_first_stage(latents))
        finally:
            kind.decode, kind.encode = computed
            self._manager.room = GIB
        self.unload()
        return seen

    def unload(self) -> None:
        with torch.inference_mode():
            self._manager.unload_all_models()


def lora_for(model: torch.nn.Module, seed: int) -> dict[str, Any]:
    """A LoRA for some matrices and convolutions of a transformer."""
    random = torch.Generator().manual_seed(seed)
    found: dict[str, Any] = {}
    for name, weight in model.named_parameters():
        shape = getattr(weight, "real_shape", None) or weight.shape
        packed = getattr(weight, "quant_state", None)
        shape = tuple(packed.shape) if packed is not None else tuple(shape)
        if len(shape) > 1 and min(shape[:2]) >= 64 and name.endswith("weight") and len(found) < 6:
            up = torch.randn((shape[0], 2, *(1 for _ in shape[2:])), generator=random) / 20
            down = torch.randn((2, *shape[1:]), generator=random) / 20
            found[name] = ("lora", (up, down, 2.0, None, None))
    return found


def digest(tensor: torch.Tensor) -> str:
    raw = tensor.detach().cpu().float().contiguous().numpy().tobytes()
    return hashlib.sha256(raw).hexdigest()[:12]
