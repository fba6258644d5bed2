"""Scripts: the WebUI's own and those of extensions, listed and imported in their order."""
import logging
import sys
from collections import namedtuple
from pathlib import Path
from modules import extensions, paths, script_callbacks, script_loading, timer

ScriptFile = namedtuple("ScriptFile", ["basedir", "filename", "path"])
ScriptClassData = namedtuple("ScriptClassData", ["script_class", "path", "basedir", "module"])
scripts_data = []

class Script:
    filename = None

    def title(self): raise NotImplementedError
    def run(self, p, *args): return None

def list_scripts(scriptdirname, extension, *, include_extensions=True):
    own = sorted(Path(paths.script_path, scriptdirname).glob(f"*{extension}"))
    found = [ScriptFile(paths.script_path, file.name, str(file)) for file in own]
    return found + [x for each in extensions.active() for x in each.list_files(scriptdirname, extension)]

def list_files_with_name(filename):
    folders = [paths.script_path, *(x.path for x in extensions.active())]
    return [str(x) for x in (Path(folder, filename) for folder in folders) if x.is_file()]

def load_scripts():
    """Forgets all callbacks and imports every script; one that fails is reported and stops nothing."""
    global scripts_txt2img, scripts_img2img
    scripts_data.clear()
    script_callbacks.clear_callbacks()
    for file in list_scripts("scripts", ".py"):
        if file.basedir not in sys.path:
            sys.path.insert(0, file.basedir)
        try:
            module = script_loading.load_module(file.path)
            kinds = [x for x in vars(module).values() if isinstance(x, type) and issubclass(x, Script)]
            scripts_data.extend(ScriptClassData(x, file.path, file.basedir, module) for x in kinds)
        except Exception:
            logging.getLogger("embedded_webui").exception("script %s failed", file.path)
        timer.startup_timer.record(file.filename)
    scripts_txt2img, scripts_img2img = ScriptRunner(), ScriptRunner()

class ScriptRunner:
    """The scripts that a user can select; none changes a request before it is made."""

    def __init__(self):
        self.scripts = [x.script_class() for x in scripts_data]
        self.selectable_scripts, self.alwayson_scripts = list(self.scripts), []
        for script, data in zip(self.scripts, scripts_data, strict=True):
            script.filename = data.path

    def before_process(self, p): ...

    def run(self, p, *args):
        """What the chosen script makes, by its number from 1 on; None where none is."""
        return self.selectable_scripts[args[0] - 1].run(p, *args[1:]) if args[0] else None
