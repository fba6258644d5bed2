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
    saved = json.loads(Path(settings_file).read_text("utf8")) if Path(settings_file).exists() else {}
    names = {x.name for x in Path(extensions_dir).iterdir() if x.is_dir()}
    return sorted(names.difference(saved.get("disabled_extensions", [])))

if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    os.environ["PYTHONPATH"] = script_path
    for _installer in Path(extensions_dir).glob("*/install.py"):
        subprocess.run([sys.executable, _installer], check=False)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import webui
        webui.webui()
    except KeyboardInterrupt:
        sys.exit(130)
