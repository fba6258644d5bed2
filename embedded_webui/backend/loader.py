"""From checkpoint files to a model."""
import torch
from backend.utils import load_torch_file
from tiny_flux.engine import TinyFlux

_MARKS = {"transformer": "img_in.weight", "t5xxl": "shared.weight", "vae": "decoder.conv_in.weight",
          "clip_l": "text_model.embeddings.token_embedding.weight"}

@torch.inference_mode()
def forge_loader(sd, additional_state_dicts=None):
    """Reads the checkpoint `sd` and its additional files; raises ValueError naming what is missing."""
    files = [load_torch_file(path) for path in (sd, *(additional_state_dicts or ()))]
    parts = {kind: tensors for kind, mark in _MARKS.items() for tensors in files if mark in tensors}
    if missing := sorted(set(_MARKS) - set(parts)):
        raise ValueError(f"{sd} with {additional_state_dicts}: no file holds {', '.join(missing)}")
    return TinyFlux(parts)
