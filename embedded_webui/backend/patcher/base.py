"""A model and the two places it can be."""
from backend import memory_management
from backend.patcher.lora import LoraLoader

class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0, current_device=None, **kwargs):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.current_device = offload_device if current_device is None else current_device
        self.size = size or sum(p.nbytes for p in model.parameters())
        self.lora_patches, self.lora_loader = {}, LoraLoader(model)

    def forge_patch_model(self, target_device=None):
        """Moves the weights to `target_device`, where one is given."""
        self._move(target_device)
        return self.model

    def forge_unpatch_model(self, target_device=None): self._move(target_device)

    def _move(self, device):
        """To and from the simulated device by copies of what is elsewhere: `.to` would make none."""
        if device in (None, self.current_device):
            return
        for p in self.model.parameters():
            if not memory_management.simulated:
                p.data = p.data.to(device)
            elif (p.data_ptr() == p.home) != (device == memory_management.cpu):
                p.data = p.data.clone()
                p.home = p.data_ptr() if device == memory_management.cpu else p.home
        self.current_device = device
