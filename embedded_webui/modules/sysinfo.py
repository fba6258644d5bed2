"""Reading and setting options from outside."""
from modules import sd_models, shared

def get_config(): return shared.opts.data

def set_config(req, is_api=False, run_callbacks=True, save_config=True):
    """Sets options; those of checkpoint and memory through main_entry, which decides what is loaded anew."""
    from modules_forge import main_entry
    memory, reload = {}, False
    for key, value in req.items():
        if value == shared.opts.data.get(key):
            continue
        if key == "sd_model_checkpoint":
            if value not in sd_models.checkpoint_aliases:
                raise RuntimeError(f"checkpoint {value!r} not found")
            reload |= main_entry.checkpoint_change(value, save=False, refresh=False)
        elif key in ("forge_inference_memory", "forge_async_loading", "forge_pin_shared_memory"):
            memory[key.removeprefix("forge_")] = value
        else:
            reload |= shared.opts.set(key, value, is_api, run_callbacks) and key == "forge_additional_modules"
    if memory:
        main_entry.refresh_memory_management_settings(**memory)
    if memory or reload:
        main_entry.refresh_model_loading_parameters()
    if save_config:
        shared.opts.save(shared.config_filename)
