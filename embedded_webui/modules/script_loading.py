"""Runs Python files of extensions."""
import importlib.util
import logging
from pathlib import Path

def load_module(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def preload_extensions(extensions_dir, parser, extension_list=None):
    """Calls `preload(parser)` of each extension's preload.py; an exception is reported and stops nothing."""
    for path in (Path(extensions_dir, name, "preload.py") for name in extension_list or ()):
        try:
            if path.exists():
                load_module(path).preload(parser)
        except Exception:
            logging.getLogger("embedded_webui").exception("preload of %s failed", path)
