"""The start, in Forge's order: memory manager, gradio, preloads, scripts, then page or API."""
# ruff: noqa: E402, I001 (the order of these imports is the point)
from modules.timer import startup_timer
from backend import memory_management, stream  # noqa: F401
startup_timer.record("memory manager")
import gradio  # noqa: F401
startup_timer.record("import gradio")
from modules.shared import cmd_opts, queue_lock, state  # runs the preloads
startup_timer.record("initialize shared")
from modules import paths_internal, script_callbacks, scripts, sd_models, shared, ui
from modules.api.api import Api
from tiny_flux.files import write_missing
startup_timer.record("other imports")

def webui():
    """Serves until it is stopped."""
    write_missing(paths_internal.models_path)
    sd_models.list_models()
    startup_timer.record("weights")
    if cmd_opts.nowebui:
        api_only_worker()
    else:
        webui_worker()

def api_only_worker():
    import uvicorn
    from fastapi import FastAPI
    app = FastAPI()
    scripts.load_scripts()
    Api(app, queue_lock)
    script_callbacks.before_ui_callback()
    script_callbacks.app_started_callback(None, app)
    uvicorn.run(app, host=cmd_opts.server_name, port=cmd_opts.port or 7861, log_level="warning")

def webui_worker():
    while True:
        scripts.load_scripts()
        script_callbacks.before_ui_callback()
        shared.demo = ui.create_ui().queue()
        startup_timer.record("create ui")
        app, _, _ = shared.demo.launch(
            server_name=cmd_opts.server_name, server_port=cmd_opts.port, prevent_thread_lock=True, quiet=True)
        if cmd_opts.api:
            Api(app, queue_lock)
        script_callbacks.app_started_callback(shared.demo, app)
        state.wait_for_server_command()
        shared.demo.close()
        script_callbacks.script_unloaded_callback()
