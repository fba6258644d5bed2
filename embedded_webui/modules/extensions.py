"""The extension folders."""
from pathlib import Path
from modules import scripts, shared
from modules.paths_internal import extensions_dir

extensions, extension_paths, loaded_extensions = [], {}, {}

class Extension:
    def __init__(self, name, path, enabled=True, is_builtin=False, metadata=None):
        self.name, self.path, self.enabled, self.is_builtin = name, path, enabled, is_builtin
        self.canonical_name = name.lower().strip()

    def list_files(self, subdir, extension):
        files = [x for x in sorted(Path(self.path, subdir).glob("*")) if x.is_file() and x.suffix == extension]
        return [scripts.ScriptFile(self.path, x.name, str(x)) for x in files]

def active():
    off = shared.cmd_opts.disable_all_extensions or shared.opts.disable_all_extensions != "none"
    return [] if off else [x for x in extensions if x.enabled]

def list_extensions():
    extensions.clear()
    for path in sorted(x for x in Path(extensions_dir).glob("*") if x.is_dir()):
        extensions.append(Extension(path.name, str(path), path.name not in shared.opts.disabled_extensions))
    extension_paths.clear()
    extension_paths.update({x.path: x for x in extensions})
    loaded_extensions.clear()
    loaded_extensions.update({x.canonical_name: x for x in extensions})

def find_extension(filename):
    """The extension that a file belongs to, or None."""
    return next(filter(None, (extension_paths.get(str(x)) for x in Path(filename).resolve().parents)), None)
