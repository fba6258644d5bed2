"""The start, in Forge's order: memory manager, gradio, preloads, scripts, then page or API."""
# ruff: noqa: E402, I001 (the order of these imports is the point)
import logging
from pathlib import Path
from modules.timer import startup_timer
from backend import memory_management, stream  # noqa: F401
startup_timer.record("memory manager")
import gradio  # noqa: F401
startup_timer.record("import gradio")
from modules.shared import cmd_opts, queue_lock  # runs the preloads
startup_timer.record("initialize shared")
import launch
from modules import script_callbacks, script_loading, sd_models, shared, ui
from modules.paths_internal import extensions_dir, models_path
from modules.api.api import Api
from tiny_flux.models import write_missing
startup_timer.record("other imports")

def webui():
    """Serves until it is stopped."""
    write_missing(models_path)
    sd_models.list_models()
    startup_timer.record("weights")
    (api_only_worker if cmd_opts.nowebui else webui_worker)()

def load_scripts():
    """Forgets all callbacks and imports every script; one that fails is reported and stops nothing."""
    for callbacks in script_callbacks.callback_map.values():
        callbacks.clear()
    names = launch.list_extensions(cmd_opts.ui_settings_file)
    for path in (x for name in names for x in sorted(Path(extensions_dir, name, "scripts").glob("*.py"))):
        try:
            script_loading.load_module(path)
        except Exception:
            logging.getLogger("embedded_webui").exception("script %s failed", path)
        startup_timer.record(path.name)

def api_only_worker():
    import uvicorn
    from fastapi import FastAPI
    app = FastAPI()
    load_scripts()
    Api(app, queue_lock)
    script_callbacks.before_ui_callback()
    script_callbacks.app_started_callback(None, app)
    uvicorn.run(app, host=cmd_opts.server_name, port=cmd_opts.port or 7861, log_level="warning")

def webui_worker():
    while True:
        load_scripts()
        script_callbacks.before_ui_callback()
        shared.demo = ui.create_ui().queue()
        startup_timer.record("create ui")
        app, _, _ = shared.demo.launch(
            server_name=cmd_opts.server_name, server_port=cmd_opts.port, prevent_thread_lock=True, quiet=True)
        if cmd_opts.api:
            Api(app, queue_lock)
        script_callbacks.app_started_callback(shared.demo, app)
        shared.state.wait_for_server_command()
        shared.demo.close()
        script_callbacks.script_unloaded_callback()
