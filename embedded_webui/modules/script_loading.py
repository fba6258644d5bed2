"""Runs Python files of extensions."""
import importlib.util
import logging
from pathlib import Path

loaded_scripts = {}

def load_module(path):
    spec = importlib.util.spec_from_file_location(Path(path).name, path)
    loaded_scripts[path] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def preload_extensions(extensions_dir, parser, extension_list=None):
    """Calls `preload(parser)` of each extension's preload.py; an exception is reported and stops nothing."""
    found = [x.name for x in Path(extensions_dir).glob("*")] if extension_list is None else extension_list
    for path in (Path(extensions_dir, name, "preload.py") for name in sorted(found)):
        try:
            if path.is_file() and (preload := getattr(load_module(str(path)), "preload", None)):
                preload(parser)
        except Exception:
            logging.getLogger("embedded_webui").exception("preload of %s failed", path)
