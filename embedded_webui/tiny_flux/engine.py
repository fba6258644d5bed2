"""The model a WebUI gets: built from files, makes pixels of prompts; moves itself to the device."""
import zlib
from types import SimpleNamespace
import torch
from torch import nn
from backend import memory_management
from backend.diffusion_engine.base import ForgeDiffusionEngine
from backend.patcher.base import ModelPatcher
from tiny_flux.models import CLIP, T5, TOKENS, WORDS, Flux, IntegratedAutoencoderKL

class KModel(nn.ModuleDict): ...
class JointTextEncoder(nn.ModuleDict): ...

def build(kind, tensors):
    """A module over the tensors as they are; all but linear layers get copies, as in Forge."""
    with torch.device("meta"):
        model = kind().requires_grad_(False).eval()
    model.load_state_dict(tensors, assign=True)
    for module in model.modules():
        for p in module.parameters(recurse=False):
            p.data = p.data if isinstance(module, nn.Linear) else p.data.clone()
            p.home = p.data_ptr()  # for ModelPatcher
    return model

class TinyFlux(ForgeDiffusionEngine):
    def __init__(self, parts):
        text = {"clip_l": build(CLIP, parts["tiny-clip_l"]), "t5xxl": build(T5, parts["tiny-t5xxl"])}
        models = (JointTextEncoder(text), KModel({"diffusion_model": build(Flux, parts["transformer"])}),
                  build(IntegratedAutoencoderKL, parts["tiny-vae"]))
        self.device = memory_management.get_torch_device()
        self.patchers = [ModelPatcher(x, self.device, memory_management.cpu) for x in models]
        clip, unet, vae = self.patchers
        self.forge_objects = SimpleNamespace(
            unet=unet, clip=SimpleNamespace(patcher=clip), vae=SimpleNamespace(patcher=vae))

    def generate(self, prompt, noise, steps, guidance):
        """Euler steps from packed noise (1, h, w, 64) to pixels (1, 3, 16h, 16w) from -1 to 1."""
        load, (clip, unet, vae) = memory_management.load_models_gpu, self.patchers
        load([clip])
        words = [zlib.crc32(word.encode()) % WORDS for word in prompt.split()]
        ids = torch.tensor([(words + [0] * TOKENS)[:TOKENS]], device=self.device)
        text, vector = clip.model["t5xxl"](ids).float(), clip.model["clip_l"](ids)[:, 0].float()
        load([unet])
        x, (_, h, w, _) = noise.flatten(1, 2).to(self.device), noise.shape
        guidance = torch.full((1,), guidance, device=self.device)
        for i in range(steps):
            t = torch.full_like(guidance, 1 - i / steps)
            x = x - unet.model["diffusion_model"](x, text, t, vector, guidance) / steps
        load([vae])
        latents = x.view(1, h, w, 16, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(1, 16, h * 2, w * 2)
        return vae.model(latents).cpu()
