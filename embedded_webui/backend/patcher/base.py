"""A model and the two places it can be."""
from backend import memory_management
from backend.patcher.lora import LoraLoader

class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0, current_device=None, **kwargs):
        self.model, self.size = model, size
        self.load_device, self.offload_device = load_device, offload_device
        self.current_device = offload_device if current_device is None else current_device
        self.lora_patches, self.lora_loader = {}, LoraLoader(model)

    def model_size(self):
        """Bytes of all parameters."""
        self.size = self.size or memory_management.module_size(self.model)
        return self.size

    def clone(self):
        return type(self)(self.model, self.load_device, self.offload_device, self.size, self.current_device)

    def is_clone(self, other): return getattr(other, "model", None) is self.model

    def refresh_loras(self): self.lora_loader.refresh(self.lora_patches, self.offload_device)

    def forge_patch_model(self, target_device=None):
        """Moves the weights to `target_device`, where one is given."""
        self._move(target_device)
        return self.model

    def forge_unpatch_model(self, target_device=None): self._move(target_device)

    def _move(self, device):
        if device not in (None, self.current_device):
            memory_management.module_move(self.model, device)
            self.current_device = device
