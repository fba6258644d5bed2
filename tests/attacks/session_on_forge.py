"""What a user of a Forge does with checkpoints, on its own loader, engines and memory manager in this process."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import traceback
from pathlib import Path
from typing import Any

import torch

from tests.attacks.files_of_models import CHECKPOINTS, FEW, FIRST, MANY, OF_BYTES, path_of
from tests.second_device import CARD, used

GIB = 1 << 30
EVERY = CHECKPOINTS | OF_BYTES
TEXT = 40_000_000  # bytes that have room where the text encoders do not fit


class Session:
    """What a user of this WebUI does, in turns."""

    def __init__(self, manager: Any, folder: Path) -> None:
        self._manager, self._folder = manager, folder

    def choose(self, name: str) -> Any:
        """The engine of a checkpoint, as the WebUI builds it."""
        from modules import sd_models

        chosen = EVERY[name]
        info = sd_models.CheckpointInfo(str(self._folder / chosen.file))
        modules = [str(path_of(self._folder, each)) for each in chosen.modules]
        sd_models.model_data.forge_loading_parameters = {
            "checkpoint_info": info,
            "additional_modules": modules,
            "unet_storage_dtype": None,
        }
        return sd_models.forge_model_reload()[0]

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
            channels = EVERY[name].channels
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
        """Loaded, with LoRAs and without, on a card that is too small, unloaded, and again."""
        try:
            seen = [self.image(name), self.image(name, lora=1), self.image(name)]
            self.unload()
            seen += [self.image(name, lora=1, room=self.small()), self.image(name, text_room=used() + TEXT)]
        except Exception as error:
            traceback.print_exc()
            seen = [f"{type(error).__name__}: {str(error)[:200]}"]
        self.unload()
        return seen

    def small(self) -> int:
        """Bytes of a card that has room for half of the transformer, and for whatever else is there."""
        from modules import sd_models

        return used() + self._manager.module_size(sd_models.model_data.sd_model.forge_objects.unet.model) // 2

    def ram(self) -> float:
        """Anonymous memory that a byte of a GGUF file takes, once there was an image and all was unloaded."""
        taken, sizes = [], []
        for name in (FIRST, FEW, MANY):  # what is there once comes with the first
            forget()
            before = anonymous()
            self.image(name)
            self.unload()
            taken.append(anonymous() - before)
            sizes.append((self._folder / EVERY[name].file).stat().st_size)
        forget()
        return (taken[2] - taken[1]) / (sizes[2] - sizes[1])

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


def anonymous() -> int:
    """Bytes of this process that no file stands behind."""
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def digest(tensor: torch.Tensor) -> str:
    raw = tensor.detach().cpu().float().contiguous().numpy().tobytes()
    return hashlib.sha256(raw).hexdigest()[:12]


def forget() -> None:
    """The WebUI has no model."""
    from modules import sd_models

    sd_models.model_data.sd_model, sd_models.model_data.forge_hash = None, ""
    gc.collect()
