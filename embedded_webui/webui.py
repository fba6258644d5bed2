"""The start, in Forge's order: memory manager, gradio, preloads, scripts, then page or API."""
# ruff: noqa: E402, I001 (the order of these imports is the point)
import logging
import threading
from pathlib import Path
from modules.timer import startup_timer
from backend import memory_management, stream  # noqa: F401
startup_timer.record("memory manager")
import gradio  # noqa: F401
startup_timer.record("import gradio")
from modules import shared, paths_internal
startup_timer.record("initialize shared")
from modules import extensions, script_callbacks, scripts, sd_models, ui
from modules.api.api import Api
from tiny_flux.files import write_missing
startup_timer.record("other imports")

log = logging.getLogger("embedded_webui")

def initialize_rest():
    """At the start and at each "Reload UI"."""
    extensions.list_extensions()
    startup_timer.record("list extensions")
    sd_models.list_models()
    startup_timer.record("list SD models")
    with startup_timer.subcategory("load scripts"):
        scripts.load_scripts()

def webui():
    """Serves on a thread of its own, as Forge does, and returns when that has ended."""
    write_missing(Path(paths_internal.models_path))
    startup_timer.record("weights")
    initialize_rest()
    worker = threading.Thread(target=api_only_worker if shared.cmd_opts.nowebui else webui_worker, daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(1)  # in steps, so that Ctrl+C is heard

def api_only_worker():
    import uvicorn
    from fastapi import FastAPI
    app = FastAPI()
    Api(app, shared.queue_lock)
    script_callbacks.before_ui_callback()
    script_callbacks.app_started_callback(None, app)
    host, port = shared.cmd_opts.server_name or "127.0.0.1", shared.cmd_opts.port or 7861
    log.info("Startup time: %s\nAPI at http://%s:%s", startup_timer.summary(), host, port)
    uvicorn.run(app, host=host, port=port, log_level="warning")

def webui_worker():
    command, login = "restart", shared.cmd_opts.gradio_auth
    while command == "restart":
        script_callbacks.before_ui_callback()
        shared.demo = ui.create_ui().queue()
        startup_timer.record("create ui")
        app, url, _ = shared.demo.launch(
            server_name=shared.cmd_opts.server_name or "127.0.0.1", server_port=shared.cmd_opts.port,
            auth=[tuple(x.split(":")) for x in login.split(",")] if login else None,
            prevent_thread_lock=True, quiet=True, show_api=False)
        if shared.cmd_opts.api:
            Api(app, shared.queue_lock)
        script_callbacks.app_started_callback(shared.demo, app)
        log.info("Startup time: %s\nPage at %s", startup_timer.summary(), url)
        command = shared.state.wait_for_server_command()
        shared.demo.close()
        startup_timer.reset()
        script_callbacks.app_reload_callback()
        script_callbacks.script_unloaded_callback()
        initialize_rest()
