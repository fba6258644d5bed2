"""The start, in Forge's order: memory manager, gradio, preloads, scripts, then page or API."""
# ruff: noqa: E402, I001 (the order of these imports is the point)
from modules.timer import startup_timer
from backend import memory_management, stream  # noqa: F401
startup_timer.record("memory manager")
import gradio  # noqa: F401
startup_timer.record("import gradio")
from modules.shared import cmd_opts, queue_lock  # runs the preloads
startup_timer.record("initialize shared")
from modules import extensions, hashes, localization, modelloader, paths, scripts  # noqa: F401
from modules import script_callbacks, sd_models, shared, ui
from modules.paths_internal import models_path
from modules.api.api import Api
from tiny_flux.models import write_missing
startup_timer.record("other imports")

def webui():
    """Serves until it is stopped."""
    write_missing(models_path)
    sd_models.list_models()
    startup_timer.record("weights")
    (api_only_worker if cmd_opts.nowebui else webui_worker)()

def api_only_worker():
    import uvicorn
    from fastapi import FastAPI
    app = FastAPI()
    extensions.list_extensions()
    scripts.load_scripts()
    Api(app, queue_lock)
    script_callbacks.before_ui_callback()
    script_callbacks.app_started_callback(None, app)
    uvicorn.run(app, host=cmd_opts.server_name, port=cmd_opts.port or 7861, log_level="warning")

def webui_worker():
    while True:
        extensions.list_extensions()
        scripts.load_scripts()
        script_callbacks.before_ui_callback()
        shared.demo = ui.create_ui().queue()
        startup_timer.record("create ui")
        app, url, _ = shared.demo.launch(
            server_name=cmd_opts.server_name, server_port=cmd_opts.port, prevent_thread_lock=True, quiet=True)
        if cmd_opts.api:
            Api(app, queue_lock)
        script_callbacks.app_started_callback(shared.demo, app)
        print(f"up, in a browser: {url} (Ctrl+C ends it)", flush=True)
        shared.state.wait_for_server_command()
        shared.demo.close()
        script_callbacks.script_unloaded_callback()
