"""What every model of a WebUI has: `forge_objects` with unet, clip and vae."""
from safetensors.torch import save_model

class ForgeDiffusionEngine:
    def save_unet(self, filename): return save_model(self.forge_objects.unet.model, filename) or filename
    def save_checkpoint(self, filename): return self.save_unet(filename)
