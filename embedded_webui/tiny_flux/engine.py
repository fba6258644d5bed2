"""The model a WebUI gets: built from files; encodes prompts, samples with the transformer, decodes."""
import torch
from torch import nn
from backend import memory_management as mm
from backend.diffusion_engine.base import ForgeDiffusionEngine, ForgeObjects
from backend.modules.k_model import KModel
from backend.patcher.base import ModelPatcher
from backend.text_processing.classic_engine import ClassicTextProcessingEngine
from backend.text_processing.t5_engine import T5TextProcessingEngine
from tiny_flux.models import CLIP, T5, Flux, IntegratedAutoencoderKL

class JointTextEncoder(nn.ModuleDict): ...

class Part:
    """Text encoders or VAE: their patcher under `patcher`, as in Forge."""

    def __init__(self, patcher): self.patcher = patcher

class TinyFlux(ForgeDiffusionEngine):
    def __init__(self, parts, load_state_dict):
        def build(kind, name):
            """A module over the tensors as they are."""
            with torch.device("meta"):
                model = kind().requires_grad_(False).eval()
            return load_state_dict(model, parts[name])

        device = mm.get_torch_device()
        text = JointTextEncoder({"clip_l": build(CLIP, "tiny-clip_l"), "t5xxl": build(T5, "tiny-t5xxl")})
        vae, unet = build(IntegratedAutoencoderKL, "tiny-vae"), KModel(build(Flux, "transformer"), None)
        self.forge_objects = ForgeObjects(
            unet=ModelPatcher(unet, device, mm.unet_offload_device()),
            clip=Part(ModelPatcher(text, device, mm.cpu)), vae=Part(ModelPatcher(vae, device, mm.cpu)))
        self.forge_objects_original = self.forge_objects.shallow_copy()
        self.forge_objects_after_applying_lora = self.forge_objects.shallow_copy()
        self.text_engine_t5 = T5TextProcessingEngine(text["t5xxl"], None)
        self.text_engine_l = ClassicTextProcessingEngine(text["clip_l"], None)

    def patchers(self):
        return [self.forge_objects.clip.patcher, self.forge_objects.unet, self.forge_objects.vae.patcher]

    def get_learned_conditioning(self, prompt):
        mm.load_models_gpu([self.forge_objects.clip.patcher])
        return {"c_crossattn": self.text_engine_t5(prompt), "y": self.text_engine_l(prompt)}

    def decode_first_stage(self, x):
        mm.load_models_gpu([self.forge_objects.vae.patcher])
        return self.forge_objects.vae.patcher.model(x)
