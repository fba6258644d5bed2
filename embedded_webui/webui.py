"""The start, in the order of Forge: memory manager, torch and gradio, preloads, scripts, interface or API, ready."""
import logging
import threading
from modules.timer import startup_timer
from backend import memory_management, stream  # noqa: F401  (before any preload, as in Forge)
startup_timer.record("initialize_forge")
import gradio  # noqa: E402, F401
startup_timer.record("import gradio")
from modules import shared  # noqa: E402  (runs the preloads)
startup_timer.record("initialize shared")
from modules import extensions, script_callbacks, scripts, sd_models, ui  # noqa: E402
from modules.api.api import Api  # noqa: E402
from tiny_flux.files import write_missing  # noqa: E402

log = logging.getLogger("embedded_webui")

def initialize_rest():
    extensions.list_extensions()
    startup_timer.record("list extensions")
    sd_models.list_models()
    startup_timer.record("list SD models")
    with startup_timer.subcategory("load scripts"):
        scripts.load_scripts()

def start():
    """Starts the server on a thread of its own and returns when it has ended."""
    write_missing(Path(paths_internal.models_path))
    startup_timer.record("weights")
    initialize_rest()
    worker = threading.Thread(target=api_only_worker if shared.cmd_opts.nowebui else webui_worker, daemon=True)
    worker.start()
    worker.join()

def api_only_worker():
    import uvicorn
    from fastapi import FastAPI
    app = FastAPI()
    Api(app, call_queue.queue_lock)
    script_callbacks.before_ui_callback()
    script_callbacks.app_started_callback(None, app)
    log.info("Startup time: %s", startup_timer.summary())
    uvicorn.run(app, host=cmd_opts.server_name, port=cmd_opts.port or 7861, log_level="warning")

def webui_worker():
    while True:
        script_callbacks.before_ui_callback()
        shared.demo = ui.create_ui().queue()
        app, _, _ = shared.demo.launch(server_name=cmd_opts.server_name, server_port=cmd_opts.port, prevent_thread_lock=True, quiet=True)
        if cmd_opts.api: Api(app, queue_lock)
        script_callbacks.app_started_callback(shared.demo, app)
        log.info(...)
        if shared.state.wait_for_server_command() != "restart":
            return
        shared.demo.close()
        startup_timer.reset()
        script_callbacks.script_unloaded_callback()
        initialize_rest()
