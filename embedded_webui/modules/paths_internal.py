"""Folders, known before anything heavy is imported."""
import argparse
import os
import shlex
import sys
from pathlib import Path

sys.argv += shlex.split(os.environ.pop("COMMANDLINE_ARGS", ""))
script_path = str(Path(__file__).resolve().parent.parent)
parser_pre = argparse.ArgumentParser(add_help=False)
parser_pre.add_argument("--data-dir", default=Path(script_path).parent / ".cache" / "embedded")
parser_pre.add_argument("--models-dir")
cmd_opts_pre = parser_pre.parse_known_args()[0]
data_path = str(Path(cmd_opts_pre.data_dir).absolute())
models_path = str(Path(cmd_opts_pre.models_dir or Path(data_path, "models")).absolute())
extensions_dir = str(Path(data_path, "extensions"))
Path(extensions_dir).mkdir(parents=True, exist_ok=True)
