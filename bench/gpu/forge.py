"""Forge's own loading and moving beside ours: forge_loop.py as a process of its own."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from measure.places import BENCH

from .files import write_file


def forge_loop(options: argparse.Namespace, tensors: dict[str, Any], paths: dict[str, Path]) -> Any:
    """What it found with the files of this run or with tiny ones; None where it wrote nothing."""
    program = BENCH / "forge_loop.py"
    json_file = options.write / "forge-loop.json"
    command = [sys.executable, str(program), "--forge", str(options.forge), "--json", str(json_file)]
    if options.scale == 1.0:
        command += [text for part in ("flux", "t5", "clip", "ae") for text in (f"--{part}", str(paths[part]))]
        second = options.write / "bench-flux-second-1.safetensors"
        if second.exists() or shutil.disk_usage(options.write).free > 1.25 * paths["flux"].stat().st_size:
            write_file(second, tensors["flux"]["tensors"], torch.bfloat16)
            command += ["--second", str(second)]
    else:
        command += ["--tiny", str(options.write / "tiny")]
    json_file.unlink(missing_ok=True)
    subprocess.run([*command, *shlex.split(options.forge_options)], check=False)
    return json.loads(json_file.read_text(encoding="utf-8")) if json_file.exists() else None
