"""Reading weight files."""
import safetensors.torch

def load_torch_file(ckpt, safe_load=False, device=None):
    """A file's tensors by name. Only safetensors: nothing here ever unpickles."""
    if not str(ckpt).lower().endswith(".safetensors"):
        raise ValueError(f"{ckpt}: only .safetensors files are read here")
    return safetensors.torch.load_file(ckpt, device="cpu" if device is None else device.type)
