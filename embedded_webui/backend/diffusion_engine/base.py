"""What every model of a WebUI has."""
from safetensors.torch import save_file

class ForgeDiffusionEngine:
    forge_objects = None  # unet, clip and vae

    def save_unet(self, filename):
        save_file(self.forge_objects.unet.model.diffusion_model.state_dict(), filename)
        return filename

    def save_checkpoint(self, filename):
        parts = {"model": self.forge_objects.unet.model, "vae": self.forge_objects.vae.patcher.model,
                 "text_encoders": self.forge_objects.clip.patcher.model}
        found = {f"{part}.{key}": x for part, m in parts.items() for key, x in m.state_dict().items()}
        save_file(found, filename)
        return filename
