"""Compiles the second device, once for each version of PyTorch."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
import torch

SOURCE = Path(__file__).with_name("card.cpp")
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "second_device"


class NotBuilt(Exception):
    """It cannot be had here; the message says why."""


def library() -> Path:
    """The compiled library for this PyTorch. Raises NotBuilt."""
    content = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    target = CACHE / f"card-torch-{torch.__version__}-{content}.so"
    if not target.is_file():
        _compile(target)
    return target


def _compile(target: Path) -> None:
    compiler = shutil.which("g++") if os.name == "posix" else None
    if compiler is None:
        raise NotBuilt("there is no g++")
    folder = Path(torch.__file__).parent
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    words = [compiler, "-O1", "-std=c++20", "-shared", "-fPIC", f"-I{folder / 'include'}", str(SOURCE)]
    words.append(f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}")  # as PyTorch was
    words += ["-o", str(partial), f"-L{folder / 'lib'}", "-ltorch_cpu", "-ltorch", "-lc10"]
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
        partial.replace(target)
    except subprocess.CalledProcessError as error:
        raise NotBuilt(f"compiling it failed ({error.stderr.strip()[-300:]})") from error
    finally:
        partial.unlink(missing_ok=True)
