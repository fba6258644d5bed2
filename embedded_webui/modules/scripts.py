"""The extensions' scripts, imported in the order of their names."""
import logging
import sys
from collections import namedtuple
from pathlib import Path
import launch
from modules import script_callbacks, script_loading, shared, timer
from modules.paths_internal import extensions_dir

ScriptFile = namedtuple("ScriptFile", ["basedir", "filename", "path"])

def list_scripts(scriptdirname, extension, *, include_extensions=True):
    names = launch.list_extensions(shared.config_filename) if include_extensions else []
    folders = [Path(extensions_dir, name) for name in names]
    return [ScriptFile(str(folder), x.name, str(x)) for folder in folders
            for x in sorted(folder.glob(f"{scriptdirname}/*{extension}"))]

def load_scripts():
    """Forgets all callbacks and imports every script; one that fails is reported and stops nothing."""
    script_callbacks.clear_callbacks()
    for script in list_scripts("scripts", ".py"):
        if script.basedir not in sys.path:
            sys.path.insert(0, script.basedir)
        try:
            script_loading.load_module(script.path)
        except Exception:
            logging.getLogger("embedded_webui").exception("script %s failed", script.path)
        timer.startup_timer.record(script.filename)
