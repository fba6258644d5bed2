"""What stands for the WebUI around Forge's backend."""

from __future__ import annotations

import gc
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Info:
    """What the WebUI knows of a checkpoint."""

    filename: str


def stand_ins(work: Path) -> None:
    """What stands for the WebUI: options, the chosen checkpoint, and its reload in our own words."""
    data = types.SimpleNamespace(sd_model=None, forge_loading_parameters={}, forge_hash="")
    data.set_sd_model = lambda model: setattr(data, "sd_model", model)
    options = types.SimpleNamespace(emphasis="Original", data={})
    found: dict[str, dict[str, Any]] = {
        "shared": {"opts": options, "cmd_opts": types.SimpleNamespace(embeddings_dir=str(work / "none"))},
        "sd_models": {"model_data": data, "forge_loader": None, "forge_model_reload": reload_checkpoint},
        "processing": {"forge_model_reload": reload_checkpoint, "process_images_inner": print},
        "script_callbacks": {"model_loaded_callback": lambda _model: None},
    }
    package = types.ModuleType("modules")
    package.__path__ = []
    sys.modules["modules"] = package
    for name, attributes in found.items():
        module = types.ModuleType(f"modules.{name}")
        vars(module).update(attributes)
        setattr(package, name, module)
        sys.modules[f"modules.{name}"] = module


def reload_checkpoint() -> tuple[Any, bool]:
    """What the WebUI does where another checkpoint is asked for: everything goes, then a build."""
    from backend import memory_management as manager
    from backend.args import dynamic_args

    web, shared = sys.modules["modules.sd_models"], sys.modules["modules.shared"]
    data = web.model_data
    wanted = str(data.forge_loading_parameters)
    if data.forge_hash == wanted:
        return data.sd_model, False
    if data.sd_model is not None:
        data.sd_model = None
        manager.unload_all_models()
        manager.soft_empty_cache()
        gc.collect()
    parameters = data.forge_loading_parameters
    dynamic_args["forge_unet_storage_dtype"] = parameters["unet_storage_dtype"]
    dynamic_args["embedding_dir"] = shared.cmd_opts.embeddings_dir
    dynamic_args["emphasis_name"] = shared.opts.emphasis
    info = parameters["checkpoint_info"]
    model = web.forge_loader(info.filename, additional_state_dicts=parameters["additional_modules"])
    model.sd_checkpoint_info, model.filename = info, info.filename
    model.extra_generation_params, model.comments = {}, []
    data.set_sd_model(model)
    data.forge_hash = wanted
    return model, True
