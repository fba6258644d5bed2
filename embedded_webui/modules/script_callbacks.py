"""The doors for extensions: functions they register, called at fixed moments."""
import dataclasses
import sys
from pathlib import Path
from modules import errors, extensions, timer

@dataclasses.dataclass
class ScriptCallback:
    script: str
    callback: object
    name: str = "unnamed"

callback_map = {f"callbacks_{x}": [] for x in (
    "app_started", "model_loaded", "ui_tabs", "ui_settings", "script_unloaded", "before_ui", "on_reload")}

def add_callback(callbacks, fun, *, name=None, category='unknown', filename=None):
    """Registers under a name made of extension, file and category; the file is the caller's."""
    frame = sys._getframe()
    while filename is None:
        frame = frame.f_back
        filename = frame.f_code.co_filename if frame.f_code.co_filename != __file__ else None
    extension = extensions.find_extension(filename)
    parts = [extension.canonical_name if extension else "base", Path(filename).name, category, name]
    wanted = unique = "/".join(filter(None, parts))
    taken, number = {x.name for x in callbacks}, 0
    while unique in taken:
        number += 1
        unique = f"{wanted}-{number}"
    callbacks.append(ScriptCallback(filename, fun, unique))

def clear_callbacks():
    for callbacks in callback_map.values():
        callbacks.clear()

def _call(category, *args, backwards=False):
    results = []
    for c in callback_map[f"callbacks_{category}"][:: -1 if backwards else 1]:
        try:
            results += c.callback(*args) or [] if category == "ui_tabs" else [c.callback(*args)]
        except Exception:
            errors.report(f"callback {category} of {c.script} failed", exc_info=True)
        timer.startup_timer.record(Path(c.script).name)
    return results

def app_started_callback(demo, app): _call("app_started", demo, app)
def model_loaded_callback(sd_model): _call("model_loaded", sd_model)
def ui_tabs_callback(): return _call("ui_tabs")
def ui_settings_callback(): _call("ui_settings")
def script_unloaded_callback(): _call("script_unloaded", backwards=True)
def before_ui_callback(): _call("before_ui", backwards=True)
def app_reload_callback(): _call("on_reload")

def _door(category):
    def register(callback, *, name=None):
        add_callback(callback_map[f"callbacks_{category}"], callback, name=name, category=category)
    return register

on_app_started, on_model_loaded, on_ui_tabs, on_ui_settings, on_script_unloaded, on_before_ui, on_before_reload = map(
    _door, ("app_started", "model_loaded", "ui_tabs", "ui_settings", "script_unloaded", "before_ui", "on_reload"))
