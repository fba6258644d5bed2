"""Folders, known before anything heavy is imported."""
import argparse
import os
import shlex
import sys
from pathlib import Path

sys.argv += shlex.split(os.environ.pop("COMMANDLINE_ARGS", ""))
script_path = str(Path(__file__).resolve().parent.parent)
_early = argparse.ArgumentParser(add_help=False)
_early.add_argument("--data-dir", default=Path(script_path).parent / ".cache" / "embedded")
_early.add_argument("--models-dir")
_found = _early.parse_known_args()[0]
data_path = str(Path(_found.data_dir).absolute())
models_path = str(Path(_found.models_dir or Path(data_path, "models")).absolute())
extensions_dir = str(Path(data_path, "extensions"))
extensions_builtin_dir = str(Path(script_path, "extensions-builtin"))
Path(extensions_dir).mkdir(parents=True, exist_ok=True)
