"""The doors for extensions: functions they register, called at fixed moments."""
import inspect
import logging
from collections import namedtuple
from pathlib import Path
from modules import timer
from modules.paths_internal import extensions_dir

ScriptCallback = namedtuple("ScriptCallback", ["script", "callback", "name"])
callback_map = {}

def clear_callbacks():
    for callbacks in callback_map.values():
        callbacks.clear()

def add_callback(callbacks, fun, *, name=None, category='unknown', filename=None):
    """Registers under a name made of extension, file and category; the file is the caller's."""
    path = Path(filename or next(x.filename for x in inspect.stack() if x.filename != __file__))
    inside = path.is_relative_to(extensions_dir)
    extension = path.relative_to(extensions_dir).parts[0].lower() if inside else "base"
    parts = filter(None, (extension, path.name, category, name))
    callbacks.append(ScriptCallback(str(path), fun, "/".join(parts)))

def _door(category, backwards=False):
    """Two functions: one registers a callback, one calls all of them and lists their answers."""
    callbacks = callback_map.setdefault(f"callbacks_{category}", [])

    def register(callback, *, name=None): add_callback(callbacks, callback, name=name, category=category)

    def call(*args, **kwargs):
        results = []
        for c in callbacks[::-1] if backwards else callbacks:
            try:
                results.append(c.callback(*args, **kwargs))
            except Exception:
                logging.getLogger("embedded_webui").exception("%s of %s failed", category, c.script)
            timer.startup_timer.record(Path(c.script).name)
        return results

    return register, call

on_before_ui, before_ui_callback = _door("before_ui", backwards=True)
on_ui_settings, ui_settings_callback = _door("ui_settings")
on_ui_tabs, ui_tabs_callback = _door("ui_tabs")
on_app_started, app_started_callback = _door("app_started")
on_after_component, after_component_callback = _door("after_component")
on_model_loaded, model_loaded_callback = _door("model_loaded")
on_script_unloaded, script_unloaded_callback = _door("script_unloaded", backwards=True)
