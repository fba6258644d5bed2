"""LoRAs, merged into the weights of a model where these are; clean copies of the weights wait in RAM."""
import torch

def load_lora(lora, to_load):
    """From a file's tensors: (patches by the name of a weight, the tensors that belong to none)."""
    patches, rest = {}, dict(lora)
    for name, key in to_load.items():
        up, down, alpha = (rest.pop(f"{name}.{x}", None) for x in ("lora_up.weight", "lora_down.weight", "alpha"))
        if up is not None:
            patches[key] = ("lora", (up, down, float(alpha), None, None))
    return patches, rest

def model_lora_keys_unet(model, key_map={}):  # noqa: B006
    """The name of each weight of the transformer by the name that it has in LoRA files."""
    names = [name for name, _ in model.diffusion_model.named_parameters() if name.endswith(".weight")]
    return {f"lora_unet_{x[:-7].replace('.', '_')}": f"diffusion_model.{x}" for x in names}

def merge_lora_to_weight(patches, weight, key="online_lora", computation_dtype=torch.float32):
    merged = weight.to(computation_dtype)
    for strength, (_, (up, down, alpha, *_)), *_ in patches:
        merged = merged + strength * alpha / down.shape[0] * (up.to(merged) @ down.to(merged))
    return merged.to(weight.dtype)

def get_parameter_devices(model): return {key: p.device for key, p in model.named_parameters()}

def set_parameter_devices(model, parameter_devices):
    for key, p in model.named_parameters():
        p.data = p.data.to(parameter_devices[key])
    return model

class LoraLoader:
    def __init__(self, model):
        self.model, self.backup, self.online_backup, self.loaded_hash = model, {}, [], "[]"

    @torch.inference_mode()
    def refresh(self, lora_patches, offload_device=torch.device("cpu"), force_refresh=False):  # noqa: B008
        """The clean weights again, and these LoRAs merged into them."""
        hashes = str(list(lora_patches.keys()))
        if hashes == self.loaded_hash and not force_refresh:
            return
        devices, weights = get_parameter_devices(self.model), dict(self.model.named_parameters())
        for key, clean in self.backup.items():
            weights[key].data = clean.to(devices[key])
        self.backup, merges = {}, {}
        for patches in lora_patches.values():
            for key, current in patches.items():
                merges[key] = merges.get(key, []) + current
        for key, current in merges.items():
            self.backup[key] = weights[key].data.to(offload_device, copy=True)
            weights[key].data = merge_lora_to_weight(current, weights[key].data, key)
        self.loaded_hash = hashes
