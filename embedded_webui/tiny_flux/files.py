"""Writes the weight files once: random, but the same each time."""
import logging
import os
import torch
from safetensors.torch import save_file
from tiny_flux.encoders import T5, Clip, IntegratedAutoencoderKL
from tiny_flux.flux import Flux

FILES = {  # path below the models folder: module and dtype
    "Stable-diffusion/tiny-flux-a.safetensors": (Flux, torch.bfloat16),
    "Stable-diffusion/tiny-flux-b.safetensors": (Flux, torch.bfloat16),
    "text_encoder/tiny-t5xxl.safetensors": (T5, torch.float16),
    "text_encoder/tiny-clip-l.safetensors": (Clip, torch.float16),
    "VAE/tiny-ae.safetensors": (IntegratedAutoencoderKL, torch.float32),
}

def write_missing(folder):
    """Writes what is not there yet, each through a temporary file and a rename."""
    for seed, (path, (kind, dtype)) in enumerate((folder / name, how) for name, how in FILES.items()):
        if not path.exists():
            logging.getLogger("embedded_webui").info("writing %s", path)
            path.parent.mkdir(parents=True, exist_ok=True)
            with torch.device("meta"):
                shapes = {key: tensor.shape for key, tensor in kind().state_dict().items()}
            random, temporary = torch.Generator().manual_seed(seed), path.with_suffix(f".{os.getpid()}.tmp")
            save_file({key: _tensor(key, shape, random).to(dtype) for key, shape in shapes.items()}, temporary)
            temporary.replace(path)

def _tensor(key, shape, random):
    if "norm" in key:
        return torch.ones(shape)
    return torch.randn(shape, generator=random) / max(1, shape[1:].numel()) ** 0.5
