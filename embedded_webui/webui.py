"""The start, in Forge's order: memory manager, gradio, preloads, scripts, then page or API."""
# ruff: noqa: E402, I001 (the order of these imports is the point)
import asyncio
import logging
import threading
from modules.timer import startup_timer
from backend import memory_management, stream  # noqa: F401
startup_timer.record("memory manager")
import gradio  # noqa: F401
startup_timer.record("import gradio")
from modules.shared import cmd_opts, queue_lock, state  # runs the preloads
startup_timer.record("initialize shared")
from modules import extensions, paths_internal, script_callbacks, scripts, sd_models, shared, ui
from modules.api.api import Api
from tiny_flux.files import write_missing
startup_timer.record("other imports")

def initialize_rest():
    """At the start and at each "Reload UI"."""
    extensions.list_extensions()
    sd_models.list_models()
    startup_timer.record("list extensions")
    with startup_timer.subcategory("load scripts"):
        scripts.load_scripts()

def webui():
    """Serves on a thread of its own, as Forge does, and returns when that has ended."""
    write_missing(paths_internal.models_path)
    startup_timer.record("weights")
    initialize_rest()
    worker = threading.Thread(target=api_only_worker if cmd_opts.nowebui else webui_worker, daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(1)  # in steps, so that Ctrl+C is heard

def _started(demo, app):
    script_callbacks.app_started_callback(demo, app)
    logging.getLogger("embedded_webui").info("Startup time: %s", startup_timer.summary())

def api_only_worker():
    import uvicorn
    from fastapi import FastAPI
    app = FastAPI()
    Api(app, queue_lock)
    script_callbacks.before_ui_callback()
    _started(None, app)
    host, port = cmd_opts.server_name or "127.0.0.1", cmd_opts.port or 7861
    uvicorn.run(app, host=host, port=port, log_level="warning")

def webui_worker():
    asyncio.set_event_loop(asyncio.new_event_loop())  # gradio's queue wants one on the thread that makes it
    while True:
        script_callbacks.before_ui_callback()
        shared.demo = ui.create_ui().queue()
        startup_timer.record("create ui")
        app, _, _ = shared.demo.launch(
            server_name=cmd_opts.server_name or "127.0.0.1", server_port=cmd_opts.port,
            prevent_thread_lock=True, quiet=True, show_api=False)
        if cmd_opts.api:
            Api(app, queue_lock)
        _started(shared.demo, app)
        state.wait_for_server_command()
        shared.demo.close()
        startup_timer.reset()
        script_callbacks.script_unloaded_callback()
        initialize_rest()
