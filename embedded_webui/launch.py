"""The launcher: runs the extensions' install.py, then the WebUI. Also imported, for its arguments."""
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
        off = json.loads(Path(settings_file).read_text("utf8")).get("disabled_extensions", [])
    except (OSError, ValueError):
        off = []
    return [x.name for x in Path(extensions_dir).iterdir() if x.is_dir() and x.name not in off]

def start():
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    logging.getLogger("embedded_webui").setLevel(logging.INFO)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([script_path, os.environ.get("PYTHONPATH", "")])}
    for path in Path(extensions_dir).glob("*/install.py"):
        if path.parent.name in list_extensions(args.ui_settings_file):
            subprocess.run([sys.executable, path], env=environ, check=False)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import webui
    webui.webui()

if __name__ == "__main__":
    start()
