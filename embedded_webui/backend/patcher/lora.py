"""Where LoRAs would be merged; this WebUI has none."""
import torch

class LoraLoader:
    def __init__(self, model):
        self.model, self.backup, self.online_backup, self.loaded_hash = model, {}, [], "[]"

    def refresh(self, lora_patches, offload_device=torch.device("cpu"), force_refresh=False):  # noqa: B008
        self.loaded_hash = str(list(lora_patches.keys()))
