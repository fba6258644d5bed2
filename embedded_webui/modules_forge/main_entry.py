"""The head of the page: checkpoint and memory settings, and what follows when they change."""
from pathlib import Path
import gradio as gr
from gradio.context import Context
from backend import memory_management, stream
from modules import sd_models
from modules.paths_internal import models_path
from modules.shared import opts

total_vram = int(memory_management.total_vram)

def make_checkpoint_manager_ui():
    """Chooses, where nothing is chosen, the first checkpoint and all of the other files."""
    global ui_forge_async_loading, ui_forge_pin_shared_memory, ui_forge_inference_memory
    checkpoints, others = list(sd_models.checkpoints_list), Path(models_path).glob("[Vt]*/*.safetensors")
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
        opts.onchange(key, _apply_memory_options, call=False)

def on_preset_change(preset=None): return []  # there are no presets here

def ui_refresh_memory_management_settings(model_memory, async_loading, pin_shared_memory):
    """Puts what the page holds into options and memory manager; megabytes."""
    opts.set("forge_inference_memory", total_vram - model_memory, run_callbacks=False)
    opts.set("forge_async_loading", async_loading, run_callbacks=False)
    opts.set("forge_pin_shared_memory", pin_shared_memory, run_callbacks=False)
    _apply_memory_options()

def _apply_memory_options():
    stream.stream_activated = opts.forge_async_loading == "Async"
    memory_management.current_inference_memory = opts.forge_inference_memory * 1024 * 1024
    memory_management.PIN_SHARED_MEMORY = opts.forge_pin_shared_memory == "Shared"
