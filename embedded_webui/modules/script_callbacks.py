"""The doors for extensions: functions they register, called at fixed moments."""
import dataclasses
import inspect
import logging
from pathlib import Path
from modules import extensions, timer

@dataclasses.dataclass
class ScriptCallback:
    script: str
    callback: object
    name: str = "unnamed"

callback_map = {f"callbacks_{door}": [] for door in (
    "app_started", "on_reload", "model_loaded", "ui_tabs", "ui_settings", "script_unloaded", "before_ui")}

def add_callback(callbacks, fun, *, name=None, category='unknown', filename=None):
    """Registers under a name made of extension, file and category; the file is the caller's."""
    filename = filename or next(x.filename for x in inspect.stack() if x.filename != __file__)
    extension = extensions.find_extension(filename)
    parts = (extension.canonical_name if extension else "base", Path(filename).name, category, name)
    wanted = unique = "/".join(filter(None, parts))
    number, taken = 0, {x.name for x in callbacks}
    while unique in taken:
        number += 1
        unique = f"{wanted}-{number}"
    callbacks.append(ScriptCallback(filename, fun, unique))

def clear_callbacks():
    for callbacks in callback_map.values():
        callbacks.clear()

def _call(door, *args):
    results, backwards = [], door in ("script_unloaded", "before_ui")
    for c in callback_map[f"callbacks_{door}"][:: -1 if backwards else 1]:
        try:
            result = c.callback(*args)
            results += (result or []) if door == "ui_tabs" else []
        except Exception:
            logging.getLogger("embedded_webui").exception("%s of %s failed", door, c.script)
        timer.startup_timer.record(Path(c.script).name)
    return results

def app_started_callback(demo, app): _call("app_started", demo, app)
def app_reload_callback(): _call("on_reload")
def model_loaded_callback(sd_model): _call("model_loaded", sd_model)
def ui_tabs_callback(): return _call("ui_tabs")
def ui_settings_callback(): _call("ui_settings")
def script_unloaded_callback(): _call("script_unloaded")
def before_ui_callback(): _call("before_ui")

def _register(door, callback, name):
    add_callback(callback_map[f"callbacks_{door}"], callback, name=name, category=door)

def on_app_started(callback, *, name=None): _register("app_started", callback, name)
def on_before_reload(callback, *, name=None): _register("on_reload", callback, name)
def on_model_loaded(callback, *, name=None): _register("model_loaded", callback, name)
def on_ui_tabs(callback, *, name=None): _register("ui_tabs", callback, name)
def on_ui_settings(callback, *, name=None): _register("ui_settings", callback, name)
def on_script_unloaded(callback, *, name=None): _register("script_unloaded", callback, name)
def on_before_ui(callback, *, name=None): _register("before_ui", callback, name)
