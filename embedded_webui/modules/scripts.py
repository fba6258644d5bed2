"""The extensions' scripts, imported in the order of their names."""
import logging
import sys
from collections import namedtuple
from modules import extensions, script_callbacks, script_loading, timer
from modules.paths_internal import script_path

ScriptFile = namedtuple("ScriptFile", ["basedir", "filename", "path"])
current_basedir = script_path

def basedir(): return current_basedir

def list_scripts(scriptdirname, extension, *, include_extensions=True):
    active = extensions.active() if include_extensions else []
    return [script for x in active for script in x.list_files(scriptdirname, extension)]

def load_scripts():
    """Forgets all callbacks and imports every script; one that fails is reported and stops nothing."""
    global current_basedir
    script_callbacks.clear_callbacks()
    for script in list_scripts("scripts", ".py"):
        if script.basedir not in sys.path:
            sys.path.insert(0, script.basedir)
        current_basedir = script.basedir
        try:
            script_loading.load_module(script.path)
        except Exception:
            logging.getLogger("embedded_webui").exception("script %s failed", script.path)
        timer.startup_timer.record(script.filename)
    current_basedir = script_path
