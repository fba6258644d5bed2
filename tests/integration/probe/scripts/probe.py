"""Test extension: answers what the WebUI's memory manager and options hold, and reloads the UI."""

from modules import script_callbacks

MANAGER = (
    "minimum_inference_memory",
    "compute_model_gpu_memory_when_using_cpu_swap",
    "load_models_gpu",
    "LoadedModel.model_load",
    "LoadedModel.model_unload",
)
ENTRY = ("make_checkpoint_manager_ui", "ui_refresh_memory_management_settings", "on_preset_change")
OPTIONS = ("forge_async_loading", "forge_pin_shared_memory", "forge_inference_memory")


def where(owner, path):
    """The file that the function in force was written in."""
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner.__code__.co_filename


def on_app_started(_demo, app):
    @app.get("/probe/state")
    def state():
        import sys

        from backend import memory_management, stream
        from modules import processing, sd_models, shared
        from modules_forge import main_entry

        functions = {path: where(memory_management, path) for path in MANAGER}
        functions |= {path: where(main_entry, path) for path in ENTRY}
        functions["forge_loader"] = where(sd_models, "forge_loader")
        return {
            "functions": functions,
            "vram_state": memory_management.vram_state.name,
            "inference": memory_management.current_inference_memory,
            "pinned": memory_management.PIN_SHARED_MEMORY,
            "streams": stream.stream_activated,
            "offload": memory_management.ALWAYS_VRAM_OFFLOAD,
            "options": {key: shared.opts.data.get(key) for key in OPTIONS},
            "settings": [key for key in shared.opts.data_labels if key.startswith("flux_speedup_")],
            "unload": processing.need_global_unload,
            "finders": [
                type(finder).__name__ for finder in sys.meta_path if "flux_speedup" in type(finder).__module__
            ],
        }

    @app.get("/probe/weights")
    def weights():
        """What our residencies know, by the class of the module."""
        from flux_speedup import app as ours

        placement = ours._running._host._placement
        found = {}
        for module, residency in list(placement._residencies.items()):
            arrival = placement.arrival(module)
            found[type(module).__name__] = {
                "resident": len(residency.resident),
                "merged": len(residency.merged),
                "parameters": len(dict(module.named_parameters())),
                "backings": {backing.value: size for backing, size in residency.backings().items()},
                "arrived": dict(arrival.by_backing) if arrival else {},
                "backup": len(module.lora_loader.backup),
            }
        return found

    @app.post("/probe/reload-ui")
    def reload_ui():
        from modules import shared

        shared.state.server_command = "restart"
        return {}


script_callbacks.on_app_started(on_app_started)
