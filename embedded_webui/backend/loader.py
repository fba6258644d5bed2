"""From checkpoint files to a model."""
from pathlib import Path
import safetensors.torch
from tiny_flux.engine import TinyFlux

def load_torch_file(ckpt, safe_load=False, device=None):
    """A file's tensors by name. Only safetensors: nothing here ever unpickles."""
    return safetensors.torch.load_file(ckpt, device="cpu" if device is None else device.type)

def load_state_dict(model, sd, ignore_errors=[], log_name=None, ignore_start=None):  # noqa: B006
    """The tensors become the model's; those of layers that are not linear are copied, as in Forge."""
    model.load_state_dict(sd, assign=True)
    for module in model.modules():
        for p in module.parameters(recurse=False):
            p.data = p.data if hasattr(module, "parameters_manual_cast") else p.data.clone()
    return model

def split_state_dict(sd, additional_state_dicts=None):
    """Reads the checkpoint and its additional files, told apart by name: (tensors by part, no guess)."""
    parts = {Path(path).stem: load_torch_file(path) for path in additional_state_dicts or ()}
    return {"transformer": load_torch_file(sd), **parts}, None

def forge_loader(sd, additional_state_dicts=None):
    """Builds the model of a checkpoint; KeyError where a part is missing."""
    return TinyFlux(split_state_dict(sd, additional_state_dicts=additional_state_dicts)[0], load_state_dict)
