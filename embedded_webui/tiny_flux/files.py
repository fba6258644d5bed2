"""Writes the weight files once: random, but the same each time."""
import os
from functools import partial
from pathlib import Path
import torch
from safetensors.torch import save_file
from tiny_flux.models import Encoder, Flux, IntegratedAutoencoderKL

T5, CLIP = partial(Encoder, 1008, 7), partial(Encoder, 768, 4)
FILES = {
    "Stable-diffusion/tiny-flux-a": Flux, "Stable-diffusion/tiny-flux-b": Flux,
    "VAE/tiny-vae": IntegratedAutoencoderKL, "text_encoder/tiny-t5xxl": T5, "text_encoder/tiny-clip_l": CLIP}

def write_missing(folder):
    """Writes what is not there yet, each through a temporary file and a rename."""
    for seed, (name, kind) in enumerate(FILES.items()):
        path, random = Path(folder, f"{name}.safetensors"), torch.Generator().manual_seed(seed)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with torch.device("meta"):
                shapes = {key: x.shape for key, x in kind().state_dict().items()}
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            save_file({key: _tensor(key, shape, random, kind) for key, shape in shapes.items()}, temporary)
            temporary.replace(path)

def _tensor(key, shape, random, kind):
    values = torch.randn(shape, generator=random) / max(1, shape[1:].numel()) ** 0.5
    values = torch.ones(shape) if "norm" in key else values
    return values if kind is IntegratedAutoencoderKL else values.bfloat16()
