"""Checkpoints, and the model that is loaded."""
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from backend import memory_management
from backend.loader import forge_loader
from modules import script_callbacks, shared
from modules.paths_internal import models_path

CheckpointInfo = namedtuple("CheckpointInfo", ["filename", "name", "sha256"])
checkpoints_list = checkpoint_aliases = {}
model_data = SimpleNamespace(sd_model=None, forge_hash="")

def list_models():
    for path in sorted(Path(models_path, "Stable-diffusion").glob("*.safetensors")):
        checkpoints_list[path.name] = CheckpointInfo(str(path), path.name, None)

def forge_model_reload():
    """Builds the chosen model, unless it is there: (model, built anew)."""
    wanted = checkpoints_list[shared.opts.sd_model_checkpoint], shared.opts.forge_additional_modules
    if model_data.forge_hash == str(wanted):
        return model_data.sd_model, False
    model_data.sd_model, model_data.forge_hash = None, ""
    memory_management.unload_all_models()
    model = forge_loader(wanted[0].filename, additional_state_dicts=wanted[1])
    model.sd_checkpoint_info, model.filename = wanted[0], wanted[0].filename
    script_callbacks.model_loaded_callback(model)
    model_data.sd_model, model_data.forge_hash = model, str(wanted)
    return model, True
