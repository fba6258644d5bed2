"""The head of the page: checkpoint and memory settings, and what follows when they change."""
import gradio as gr
from pathlib import Path
from backend import memory_management, stream
from backend.args import dynamic_args
from gradio.context import Context
from modules import processing, sd_models, shared
from modules.paths_internal import models_path

total_vram = int(memory_management.total_vram)
ui_checkpoint = ui_forge_async_loading = ui_forge_pin_shared_memory = ui_forge_inference_memory = None
module_list = {}

def refresh_models():
    sd_models.list_models()
    module_list.clear()
    for folder in ("VAE", "text_encoder"):
        module_list.update({x.name: str(x) for x in sorted(Path(models_path, folder).glob("*.safetensors"))})
    return [x.name for x in sd_models.checkpoints_list.values()], module_list.keys()

def make_checkpoint_manager_ui():
    global ui_checkpoint, ui_forge_async_loading, ui_forge_pin_shared_memory, ui_forge_inference_memory
    opts, quiet = shared.opts, {"queue": False, "show_progress": False}
    ui_checkpoint = gr.Dropdown(refresh_models()[0], value=lambda: opts.sd_model_checkpoint, label="Checkpoint", elem_id="checkpoint")
    ui_forge_async_loading = gr.Radio(["Queue", "Async"], value=lambda: opts.forge_async_loading, label="Swap Method")
    ui_forge_pin_shared_memory = gr.Radio(["CPU", "Shared"], value=lambda: opts.forge_pin_shared_memory, label="Swap Location")
    ui_forge_inference_memory = gr.Slider(0, total_vram, value=lambda: total_vram - opts.forge_inference_memory, step=1, label="GPU Weights (MB)")
    memory = [ui_forge_inference_memory, ui_forge_async_loading, ui_forge_pin_shared_memory]
    for component in memory:
        component.change(ui_refresh_memory_management_settings, inputs=memory, **quiet)
    Context.root_block.load(ui_refresh_memory_management_settings, inputs=memory, **quiet)
    ui_checkpoint.change(checkpoint_change, inputs=[ui_checkpoint], **quiet)

def ui_refresh_memory_management_settings(model_memory, async_loading, pin_shared_memory):
    refresh_memory_management_settings(async_loading=async_loading, pin_shared_memory=pin_shared_memory, model_memory=model_memory)

def refresh_memory_management_settings(async_loading=None, inference_memory=None, pin_shared_memory=None, model_memory=None):
    """Puts what is given, else what the options say, into options and memory manager; megabytes."""
    values = {"forge_async_loading": async_loading, "forge_pin_shared_memory": pin_shared_memory,
              "forge_inference_memory": inference_memory if model_memory is None else total_vram - model_memory}
    for key, value in values.items():
        if value is not None: shared.opts.set(key, value)
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
    if sd_models.get_closet_checkpoint_match(ckpt_name) == sd_models.get_closet_checkpoint_match(shared.opts.sd_model_checkpoint):
        return False
    return _change("sd_model_checkpoint", ckpt_name, save, refresh)

def modules_change(module_values, save=True, refresh=True):
    modules = [module_list[Path(x).name] for x in module_values if Path(x).name in module_list]
    if sorted(modules) == sorted(shared.opts.forge_additional_modules):
        return False
    return _change("forge_additional_modules", modules, save, refresh)

def _change(key, value, save, refresh):
    shared.opts.set(key, value)
    if save: shared.opts.save(shared.config_filename)
    if refresh: refresh_model_loading_parameters()
    return True
