"""What every model of a WebUI has: `forge_objects` with unet, clip and vae."""
from types import SimpleNamespace
from safetensors.torch import save_model

class ForgeObjects(SimpleNamespace):
    def shallow_copy(self): return ForgeObjects(**vars(self))

class ForgeDiffusionEngine:
    current_lora_hash = "[]"

    def save_unet(self, filename): return save_model(self.forge_objects.unet.model, filename) or filename
    def save_checkpoint(self, filename): return self.save_unet(filename)
