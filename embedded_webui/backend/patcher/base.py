"""A model, the two places it can be, and the LoRAs that it is to have."""
from backend import memory_management
from backend.patcher.lora import LoraLoader

class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0, current_device=None, **kwargs):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.current_device = offload_device if current_device is None else current_device
        self.size, self.lora_patches = size or memory_management.module_size(model), {}
        if not hasattr(model, "lora_loader"):
            model.lora_loader = LoraLoader(model)
        self.lora_loader = model.lora_loader

    def clone(self):
        made = ModelPatcher(self.model, self.load_device, self.offload_device, self.size, self.current_device)
        made.lora_patches = dict(self.lora_patches)
        return made

    def add_patches(self, *, filename, patches, strength_patch=1.0, strength_model=1.0, online_mode=False):
        """Tensors by the name of a weight, to be merged into it at the next load."""
        found = {key: [[strength_patch, patch, strength_model, None, None]] for key, patch in patches.items()}
        self.lora_patches[filename, strength_patch, strength_model, online_mode] = found
        return set(found)

    def refresh_loras(self): self.lora_loader.refresh(self.lora_patches, self.offload_device)

    def forge_patch_model(self, target_device=None):
        """Moves the weights to `target_device`, where one is given."""
        if target_device is not None:
            self.model.to(target_device)
            self.current_device = target_device
        return self.model

    def forge_unpatch_model(self, target_device=None): self.forge_patch_model(target_device)
