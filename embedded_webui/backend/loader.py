"""From checkpoint files to a model."""
from pathlib import Path
import torch
from backend.utils import load_torch_file
from tiny_flux.engine import TinyFlux

def split_state_dict(sd, additional_state_dicts=None):
    """Reads the checkpoint and its additional files, told apart by name: (tensors by part, no guess)."""
    parts = {"transformer": load_torch_file(sd)}
    for path in additional_state_dicts or ():
        parts[Path(path).stem.removeprefix("tiny-")] = load_torch_file(path)
    if not {"t5xxl", "clip_l", "vae"} <= set(parts):
        raise ValueError(f"{sd} with {additional_state_dicts}: t5xxl, clip_l or vae is missing")
    return parts, None

@torch.inference_mode()
def forge_loader(sd, additional_state_dicts=None):
    """Builds the model of a checkpoint; ValueError where a part is missing."""
    return TinyFlux(split_state_dict(sd, additional_state_dicts=additional_state_dicts)[0])
