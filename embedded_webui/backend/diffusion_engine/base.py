"""What every model of a WebUI has."""

class ForgeDiffusionEngine:
    """Its `forge_objects` are unet, clip and vae; this WebUI saves none of them."""

    def save_unet(self, filename): raise NotImplementedError
    def save_checkpoint(self, filename): raise NotImplementedError
