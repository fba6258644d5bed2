"""The launcher: runs the extensions' install.py, then the WebUI. Also imported as `launch` for its arguments."""
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from modules import cmd_args
from modules.paths_internal import extensions_dir, script_path

args = cmd_args.parser.parse_known_args()[0]

def list_extensions(settings_file):
    """Names of the extension folders that the settings file does not switch off."""
    try:
        settings = json.loads(Path(settings_file).read_text("utf8"))
    except (OSError, ValueError):
        settings = {}
    if args.disable_all_extensions or settings.get("disable_all_extensions", "none") != "none":
        return []
    off = settings.get("disabled_extensions", [])
    return [x.name for x in Path(extensions_dir).glob("*") if x.is_dir() and x.name not in off]

def start():
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    logging.getLogger("embedded_webui").setLevel(logging.INFO)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    path = os.pathsep.join(filter(None, [script_path, os.environ.get("PYTHONPATH")]))
    for name in [] if args.skip_install else list_extensions(args.ui_settings_file):
        if (installer := Path(extensions_dir, name, "install.py")).is_file():
            subprocess.run([sys.executable, installer], env=os.environ | {"PYTHONPATH": path}, check=False)
    import webui
    webui.webui()

if __name__ == "__main__":
    start()
