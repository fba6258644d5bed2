"""The head of the page: checkpoint and memory settings, and what follows when they change."""
from pathlib import Path
import gradio as gr
from gradio.context import Context
from backend import memory_management, stream
from modules import processing, sd_models
from modules.paths_internal import models_path
from modules.shared import opts

total_vram = int(memory_management.total_vram)

def make_checkpoint_manager_ui():
    """Chooses, where nothing is chosen, the first checkpoint and all of the other files."""
    global ui_forge_async_loading, ui_forge_pin_shared_memory, ui_forge_inference_memory
    checkpoints, others = sd_models.checkpoint_tiles(), Path(models_path).glob("[Vt]*/*.safetensors")
    opts.data["sd_model_checkpoint"] = opts.sd_model_checkpoint or checkpoints[0]
    opts.data["forge_additional_modules"] = opts.forge_additional_modules or sorted(map(str, others))
    ui_checkpoint = gr.Dropdown(checkpoints, value=lambda: opts.sd_model_checkpoint, label="Checkpoint")
    ui_forge_async_loading = gr.Radio(
        ["Queue", "Async"], value=lambda: opts.forge_async_loading, label="Swap Method")
    ui_forge_pin_shared_memory = gr.Radio(
        ["CPU", "Shared"], value=lambda: opts.forge_pin_shared_memory, label="Swap Location")
    ui_forge_inference_memory = gr.Slider(
        0, total_vram, lambda: total_vram - opts.forge_inference_memory, step=1, label="GPU Weights (MB)")
    ui_checkpoint.change(lambda x: opts.set("sd_model_checkpoint", x) and None, ui_checkpoint, queue=False)

def forge_main_entry():
    memory = [ui_forge_inference_memory, ui_forge_async_loading, ui_forge_pin_shared_memory]
    for event in (*(component.change for component in memory), Context.root_block.load):
        event(ui_refresh_memory_management_settings, memory, queue=False, show_progress=False)
    for key in ("forge_async_loading", "forge_inference_memory", "forge_pin_shared_memory"):
        opts.onchange(key, lambda: refresh_memory_management_settings(), call=False)
    for key in ("sd_model_checkpoint", "forge_additional_modules"):
        opts.onchange(key, lambda: refresh_model_loading_parameters())

def on_preset_change(preset=None): return []  # there are no presets here

def ui_refresh_memory_management_settings(model_memory, async_loading, pin_shared_memory):
    """Puts what the page holds into options and memory manager; megabytes."""
    refresh_memory_management_settings(async_loading, None, pin_shared_memory, model_memory)

def refresh_memory_management_settings(
        async_loading=None, inference_memory=None, pin_shared_memory=None, model_memory=None):
    """What is not given is as the options say. As in Forge, the next image begins with all models unloaded."""
    kept = inference_memory if model_memory is None else total_vram - model_memory
    given = {"async_loading": async_loading, "inference_memory": kept, "pin_shared_memory": pin_shared_memory}
    for key, value in given.items():
        if value is not None:
            opts.set(f"forge_{key}", value, run_callbacks=False)
    stream.stream_activated = opts.forge_async_loading == "Async"
    memory_management.current_inference_memory = opts.forge_inference_memory * 1024 * 1024
    memory_management.PIN_SHARED_MEMORY = opts.forge_pin_shared_memory == "Shared"
    processing.need_global_unload = True

def refresh_model_loading_parameters():
    sd_models.model_data.forge_loading_parameters = {
        "checkpoint_info": sd_models.select_checkpoint(), "additional_modules": opts.forge_additional_modules,
        "unet_storage_dtype": None}
    processing.need_global_unload = True
