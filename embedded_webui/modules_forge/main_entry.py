"""The head of the page: checkpoint and memory settings, and what follows when they change."""
from pathlib import Path
import gradio as gr
from gradio.context import Context
from backend import memory_management, stream
from backend.args import dynamic_args
from modules import processing, sd_models, shared
from modules.paths_internal import models_path

total_vram = int(memory_management.total_vram)
ui_checkpoint = ui_forge_async_loading = ui_forge_pin_shared_memory = ui_forge_inference_memory = None
module_list = {}

def refresh_models():
    sd_models.list_models()
    for folder in ("VAE", "text_encoder"):
        module_list.update({x.name: str(x) for x in sorted(Path(models_path, folder).glob("*.safetensors"))})
    return [x.name for x in sd_models.checkpoints_list.values()], module_list.keys()

def make_checkpoint_manager_ui():
    global ui_checkpoint, ui_forge_async_loading, ui_forge_pin_shared_memory, ui_forge_inference_memory
    opts, quiet = shared.opts, {"queue": False, "show_progress": False}
    checkpoints, found = refresh_models()
    opts.data["sd_model_checkpoint"] = opts.sd_model_checkpoint or next(iter(checkpoints), None)
    opts.data["forge_additional_modules"] = opts.forge_additional_modules or [module_list[x] for x in found]
    ui_checkpoint = gr.Dropdown(label="Checkpoint", value=lambda: opts.sd_model_checkpoint, choices=checkpoints)
    ui_forge_async_loading = gr.Radio(
        label="Swap Method", value=lambda: opts.forge_async_loading, choices=["Queue", "Async"])
    ui_forge_pin_shared_memory = gr.Radio(
        label="Swap Location", value=lambda: opts.forge_pin_shared_memory, choices=["CPU", "Shared"])
    ui_forge_inference_memory = gr.Slider(
        label="GPU Weights (MB)", value=lambda: total_vram - opts.forge_inference_memory, maximum=total_vram, step=1)
    memory = [ui_forge_inference_memory, ui_forge_async_loading, ui_forge_pin_shared_memory]
    for component in memory:
        component.change(ui_refresh_memory_management_settings, inputs=memory, **quiet)
    Context.root_block.load(ui_refresh_memory_management_settings, inputs=memory, **quiet)
    ui_checkpoint.change(lambda name: checkpoint_change(name) and None, inputs=[ui_checkpoint], **quiet)

def on_preset_change(preset=None): return []  # there are no presets here

def ui_refresh_memory_management_settings(model_memory, async_loading, pin_shared_memory):
    refresh_memory_management_settings(async_loading, None, pin_shared_memory, model_memory)

def refresh_memory_management_settings(async_loading=None, inference_memory=None, pin_shared_memory=None,
                                       model_memory=None):
    """Puts what is given, else what the options say, into options and memory manager; megabytes."""
    values = {"forge_async_loading": async_loading, "forge_pin_shared_memory": pin_shared_memory,
              "forge_inference_memory": inference_memory if model_memory is None else total_vram - model_memory}
    for key, value in values.items():
        shared.opts.set(key, getattr(shared.opts, key) if value is None else value)
    stream.stream_activated = shared.opts.forge_async_loading == "Async"
    memory_management.current_inference_memory = shared.opts.forge_inference_memory * 1024 * 1024
    memory_management.PIN_SHARED_MEMORY = shared.opts.forge_pin_shared_memory == "Shared"
    processing.need_global_unload = True

def refresh_model_loading_parameters():
    dynamic_args["online_lora"] = False
    sd_models.model_data.forge_loading_parameters = {
        "checkpoint_info": sd_models.select_checkpoint(), "unet_storage_dtype": None,
        "additional_modules": shared.opts.forge_additional_modules}
    processing.need_global_unload = True

def checkpoint_change(ckpt_name, save=True, refresh=True):
    """Chooses a checkpoint by any of its names; True if it is another one."""
    find = sd_models.get_closet_checkpoint_match
    changed = find(ckpt_name) != find(shared.opts.sd_model_checkpoint)
    return changed and _change("sd_model_checkpoint", ckpt_name, save, refresh)

def modules_change(module_values, save=True, refresh=True):
    """Chooses text encoders and VAE by file name; True if they are others."""
    chosen = [module_list[Path(x).name] for x in module_values if Path(x).name in module_list]
    changed = sorted(chosen) != sorted(shared.opts.forge_additional_modules)
    return changed and _change("forge_additional_modules", chosen, save, refresh)

def _change(key, value, save, refresh):
    shared.opts.set(key, value)
    if save:
        shared.opts.save(shared.config_filename)
    if refresh:
        refresh_model_loading_parameters()
    return True
