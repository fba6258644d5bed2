"""Checkpoints, and the model that is loaded."""
from pathlib import Path
import torch
from backend import memory_management
from backend.args import dynamic_args
from backend.loader import forge_loader
from modules import hashes, script_callbacks, shared
from modules.paths_internal import models_path

checkpoints_list, checkpoint_aliases = {}, {}

class CheckpointInfo:
    def __init__(self, filename):
        self.filename, self.name, self.name_for_extra = filename, Path(filename).name, Path(filename).stem
        self.sha256 = self.shorthash = None
        self.title, self.short_title, self.ids = self.name, self.name_for_extra, [self.name, self.name_for_extra]

    def register(self):
        checkpoints_list[self.title] = self
        checkpoint_aliases.update(dict.fromkeys(self.ids, self))

    def calculate_shorthash(self):
        """The first ten letters of its sha256, which from then on is in its title; None without hashing."""
        self.sha256 = hashes.sha256(self.filename, f"checkpoint/{self.name}")
        if self.sha256 and not self.shorthash:
            self.shorthash = self.sha256[:10]
            checkpoints_list.pop(self.title, None)
            self.title, self.short_title = (f"{x} [{self.shorthash}]" for x in (self.name, self.name_for_extra))
            self.ids += [self.title, self.shorthash, self.sha256]
            self.register()
        return self.shorthash

class SdModelData:
    def __init__(self): self.sd_model, self.forge_loading_parameters, self.forge_hash = None, {}, ""
    def get_sd_model(self): return self.sd_model
    def set_sd_model(self, v): self.sd_model = v

model_data = SdModelData()

def checkpoint_tiles(use_short=False):
    return [x.short_title if use_short else x.name for x in checkpoints_list.values()]

def list_models():
    for path in sorted(Path(models_path, "Stable-diffusion").glob("*.safetensors")):
        CheckpointInfo(str(path)).register()

def select_checkpoint():
    return checkpoint_aliases.get(shared.opts.sd_model_checkpoint) or next(iter(checkpoints_list.values()))

@torch.inference_mode()
def forge_model_reload():
    """Builds the chosen model, unless it is there: (model, built anew)."""
    wanted = str(model_data.forge_loading_parameters)
    if model_data.forge_hash == wanted:
        return model_data.sd_model, False
    if model_data.sd_model is not None:
        model_data.sd_model = None
        memory_management.unload_all_models()
    info, others = (model_data.forge_loading_parameters[x] for x in ("checkpoint_info", "additional_modules"))
    dynamic_args.update(embedding_dir=shared.cmd_opts.embeddings_dir, emphasis_name=shared.opts.emphasis)
    model = forge_loader(info.filename, additional_state_dicts=others)
    model.sd_checkpoint_info, model.filename, model.sd_model_hash = info, info.filename, info.calculate_shorthash()
    shared.opts.data["sd_checkpoint_hash"] = info.sha256
    model_data.set_sd_model(model)
    script_callbacks.model_loaded_callback(model)
    model_data.forge_hash = wanted
    return model, True
