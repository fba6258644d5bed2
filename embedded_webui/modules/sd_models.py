"""Checkpoints, and the model that is loaded."""
import gc
from pathlib import Path
import torch
from backend import memory_management
from backend.args import dynamic_args
from backend.loader import forge_loader
from modules import script_callbacks, shared
from modules.paths_internal import models_path

model_path = str(Path(models_path, "Stable-diffusion"))
checkpoints_list, checkpoint_aliases = {}, {}

class CheckpointInfo:
    def __init__(self, filename):
        self.filename, self.model_name = filename, Path(filename).stem
        self.name = self.title = Path(filename).name

    def __repr__(self): return f"CheckpointInfo({self.filename!r})"

    def register(self):
        checkpoints_list[self.title] = self
        checkpoint_aliases.update({self.name: self, self.model_name: self})

def list_models():
    checkpoints_list.clear()
    checkpoint_aliases.clear()
    for path in sorted(Path(model_path).glob("*.safetensors")):
        CheckpointInfo(str(path)).register()

def get_closet_checkpoint_match(search_string): return checkpoint_aliases.get(search_string)

def select_checkpoint():
    """The chosen checkpoint, else the first one; None where there is none."""
    found = checkpoint_aliases.get(shared.opts.sd_model_checkpoint)
    return found or next(iter(checkpoints_list.values()), None)

class SdModelData:
    def __init__(self):
        self.sd_model, self.forge_loading_parameters, self.forge_hash = None, {}, ''

    def get_sd_model(self): return self.sd_model

    def set_sd_model(self, v): self.sd_model = shared.sd_model = v

model_data = SdModelData()

def unload_model_weights(sd_model=None, info=None): memory_management.unload_all_models()

@torch.inference_mode()
def forge_model_reload():
    """Builds the model that the loading parameters ask for, unless it is there: (model, built anew)."""
    wanted = model_data.forge_loading_parameters
    if model_data.forge_hash == str(wanted):
        return model_data.sd_model, False
    if model_data.sd_model:
        model_data.set_sd_model(None)
        memory_management.unload_all_models()
        gc.collect()
    info = wanted["checkpoint_info"]
    if info is None:
        raise ValueError(f"no checkpoint in {model_path}")
    dynamic_args.update(embedding_dir=shared.cmd_opts.embeddings_dir, emphasis_name=shared.opts.emphasis)
    model = forge_loader(info.filename, additional_state_dicts=wanted["additional_modules"])
    model.sd_checkpoint_info, model.filename = info, info.filename
    model.extra_generation_params, model.comments = {}, []
    model_data.set_sd_model(model)
    script_callbacks.model_loaded_callback(model)
    model_data.forge_hash = str(wanted)
    return model, True
