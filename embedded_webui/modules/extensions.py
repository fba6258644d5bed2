"""The extension folders."""
from pathlib import Path
from modules import scripts, shared
from modules.paths_internal import extensions_dir

extensions, extension_paths = [], {}

class Extension:
    def __init__(self, name, path, enabled=True, is_builtin=False, metadata=None):
        self.name, self.path, self.enabled, self.is_builtin = name, path, enabled, is_builtin
        self.canonical_name = name.lower().strip()

    def list_files(self, subdir, extension):
        files = sorted(Path(self.path, subdir).glob(f"*{extension}"))
        return [scripts.ScriptFile(self.path, x.name, str(x)) for x in files]

def active(): return [x for x in extensions if x.enabled]

def list_extensions():
    off, folders = shared.opts.disabled_extensions, sorted(Path(extensions_dir).iterdir())
    extensions[:] = [Extension(x.name, str(x), x.name not in off) for x in folders if x.is_dir()]
    extension_paths.clear()
    extension_paths.update({x.path: x for x in extensions})

def find_extension(filename):
    """The extension that a file belongs to, or None."""
    return next(filter(None, (extension_paths.get(str(x)) for x in Path(filename).resolve().parents)), None)
