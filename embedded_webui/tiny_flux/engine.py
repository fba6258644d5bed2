"""The model a WebUI gets: built from files, encodes prompts, samples, decodes; moves itself to the device."""
import zlib
from types import SimpleNamespace
import torch
from torch import nn
from backend import memory_management as mm
from backend.diffusion_engine.base import ForgeDiffusionEngine
from backend.patcher.base import ModelPatcher
from tiny_flux.encoders import T5, TOKENS, WORDS, Clip, IntegratedAutoencoderKL
from tiny_flux.flux import Flux

class KModel(nn.ModuleDict): ...

class JointTextEncoder(nn.ModuleDict): ...

def build(kind, tensors):
    """A module over the tensors as they are; all but linear layers get copies, as in Forge."""
    with torch.device("meta"):
        model = kind().requires_grad_(False).eval()
    model.load_state_dict(tensors, assign=True)
    for module in model.modules():
        for p in () if isinstance(module, nn.Linear) else module.parameters(recurse=False):
            p.data = p.data.clone()
    for p in model.parameters():
        p.home = p.data_ptr()  # for memory_management.module_move
    return model

class TinyFlux(ForgeDiffusionEngine):
    def __init__(self, parts):
        flux = KModel({"diffusion_model": build(Flux, parts["transformer"])})
        text = JointTextEncoder({"clip_l": build(Clip, parts["clip_l"]), "t5xxl": build(T5, parts["t5xxl"])})
        device, start = mm.get_torch_device(), mm.unet_inital_load_device(2 * 10**8, torch.bfloat16)
        if start != mm.cpu:
            mm.module_move(flux, start)
        unet = ModelPatcher(flux, device, mm.unet_offload_device(), current_device=start)
        clip, vae = (SimpleNamespace(patcher=ModelPatcher(m, device, mm.cpu))
                     for m in (text, build(IntegratedAutoencoderKL, parts["vae"])))
        self.forge_objects = SimpleNamespace(unet=unet, clip=clip, vae=vae, clipvision=None)
        self.forge_objects_original = self.forge_objects_after_applying_lora = self.forge_objects
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def _on_device(self, patcher):
        mm.load_models_gpu([patcher])
        return patcher.model

    def get_learned_conditioning(self, prompt):
        """Encodes a list of prompts; words become token numbers by their checksum."""
        text = self._on_device(self.forge_objects.clip.patcher)
        words = [[zlib.crc32(w.encode()) % WORDS for w in p.split()] for p in prompt]
        ids = torch.tensor([(w + [0] * TOKENS)[:TOKENS] for w in words], device=mm.get_torch_device())
        return text["t5xxl"](ids).to(self.dtype), text["clip_l"](ids)[:, 0].to(self.dtype)

    def sample(self, noise, cond, steps, guidance):
        """Euler steps from noise to latents, both packed: (1, tokens, 64)."""
        flux, x = self._on_device(self.forge_objects.unet)["diffusion_model"], noise.to(mm.get_torch_device())
        for i in range(steps):
            t = torch.full((1,), 1 - i / steps, device=x.device)
            x = x - flux(x.to(self.dtype), cond[0], t, cond[1], torch.full_like(t, guidance)).float() / steps
        return x

    def decode_first_stage(self, x):
        """Latents (1, 16, h, w) to pixels (1, 3, 8h, 8w) from -1 to 1."""
        return self._on_device(self.forge_objects.vae.patcher)(x).cpu()
