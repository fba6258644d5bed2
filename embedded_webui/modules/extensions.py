"""Extensions: those that come along, and the user's."""
from pathlib import Path
from modules import shared
from modules.paths_internal import extensions_builtin_dir, extensions_dir

extensions = []

class Extension:
    def __init__(self, name, path, enabled=True, is_builtin=False, metadata=None):
        self.name, self.path, self.enabled, self.is_builtin = name, path, enabled, is_builtin
        self.metadata, self.status = metadata, ""

    def list_files(self, subdir, extension):
        from modules import scripts
        files = sorted(Path(self.path, subdir).glob(f"*{extension}"))
        return [scripts.ScriptFile(self.path, file.name, str(file)) for file in files]

def active(): return [x for x in extensions if x.enabled]

def list_extensions():
    extensions.clear()
    for folder in (extensions_builtin_dir, extensions_dir):
        for x in sorted(x for x in Path(folder).iterdir() if x.is_dir()):
            enabled = x.name not in shared.opts.disabled_extensions
            extensions.append(Extension(x.name, str(x), enabled, folder == extensions_builtin_dir))
