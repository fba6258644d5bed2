"""Test extension: counts text encodings and unloads of everything, and asks for one."""

from modules import script_callbacks

COUNTS = {"encodings": 0, "unloads": 0}


def counted(name, original):
    def function(*args, **kwargs):
        COUNTS[name] += 1
        return original(*args, **kwargs)

    return function


def on_app_started(_demo, app):
    from backend import memory_management
    from backend.diffusion_engine.flux import Flux

    if not hasattr(Flux, "probe_counts"):
        Flux.probe_counts = True
        Flux.get_learned_conditioning = counted("encodings", Flux.get_learned_conditioning)
        memory_management.unload_all_models = counted("unloads", memory_management.unload_all_models)

    @app.get("/probe/counts")
    def counts():
        return COUNTS

    @app.post("/probe/unload-flag")
    def unload_flag():
        """What another extension does that wants everything unloaded."""
        from modules import processing

        processing.need_global_unload = True
        return {}


script_callbacks.on_app_started(on_app_started)
