"""The head of the page: checkpoint and memory settings, and what follows when they change."""
from pathlib import Path
import gradio as gr
from gradio.context import Context
from backend import memory_management, stream
from modules import processing, sd_models, shared
from modules.paths_internal import models_path

total_vram = int(memory_management.total_vram)
ui_checkpoint = ui_forge_async_loading = ui_forge_pin_shared_memory = ui_forge_inference_memory = None

def make_checkpoint_manager_ui():
    global ui_checkpoint, ui_forge_async_loading, ui_forge_pin_shared_memory, ui_forge_inference_memory
    opts, quiet = shared.opts, {"queue": False, "show_progress": False}
    checkpoints = list(sd_models.checkpoints_list)
    opts.data["sd_model_checkpoint"] = opts.sd_model_checkpoint or next(iter(checkpoints), None)
    found = [x for kind in ("VAE", "text_encoder") for x in Path(models_path, kind).glob("*.safetensors")]
    opts.data["forge_additional_modules"] = opts.forge_additional_modules or sorted(map(str, found))
    ui_checkpoint = gr.Dropdown(checkpoints, value=lambda: opts.sd_model_checkpoint, label="Checkpoint")
    ui_forge_async_loading = gr.Radio(
        ["Queue", "Async"], value=lambda: opts.forge_async_loading, label="Swap Method")
    ui_forge_pin_shared_memory = gr.Radio(
        ["CPU", "Shared"], value=lambda: opts.forge_pin_shared_memory, label="Swap Location")
    ui_forge_inference_memory = gr.Slider(
        0, total_vram, lambda: total_vram - opts.forge_inference_memory, step=1, label="GPU Weights (MB)")
    memory = [ui_forge_inference_memory, ui_forge_async_loading, ui_forge_pin_shared_memory]
    for event in (*(component.change for component in memory), Context.root_block.load):
        event(ui_refresh_memory_management_settings, inputs=memory, **quiet)
    ui_checkpoint.change(lambda name: checkpoint_change(name) and None, inputs=[ui_checkpoint], **quiet)

def on_preset_change(preset=None): return []  # there are no presets here

def ui_refresh_memory_management_settings(model_memory, async_loading, pin_shared_memory):
    refresh_memory_management_settings(async_loading, None, pin_shared_memory, model_memory)

def refresh_memory_management_settings(async_loading=None, inference_memory=None, pin_shared_memory=None,
                                       model_memory=None):
    """Puts what is given, else what the options say, into options and memory manager; megabytes."""
    inference_memory = inference_memory if model_memory is None else total_vram - model_memory
    for key, value in (("forge_async_loading", async_loading), ("forge_inference_memory", inference_memory),
                       ("forge_pin_shared_memory", pin_shared_memory)):
        shared.opts.set(key, getattr(shared.opts, key) if value is None else value)
    stream.stream_activated = shared.opts.forge_async_loading == "Async"
    memory_management.current_inference_memory = shared.opts.forge_inference_memory * 1024 * 1024
    memory_management.PIN_SHARED_MEMORY = shared.opts.forge_pin_shared_memory == "Shared"
    processing.need_global_unload = True

def refresh_model_loading_parameters():
    sd_models.model_data.forge_loading_parameters = {
        "checkpoint_info": sd_models.select_checkpoint(), "unet_storage_dtype": None,
        "additional_modules": shared.opts.forge_additional_modules}
    processing.need_global_unload = True

def checkpoint_change(ckpt_name, save=True, refresh=True):
    """Chooses a checkpoint by any of its names; True if it is another one."""
    find = sd_models.get_closet_checkpoint_match
    if changed := find(ckpt_name) is not find(shared.opts.sd_model_checkpoint):
        shared.opts.set("sd_model_checkpoint", ckpt_name)
        if save:
            shared.opts.save(shared.config_filename)
        if refresh:
            refresh_model_loading_parameters()
    return changed
