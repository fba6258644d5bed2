"""Puts the extension into a WebUI and starts that WebUI with its own Python."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import program

NAME = "flux-speedup"
SOURCE = Path(__file__).resolve().parent.parent / "extensions" / NAME
NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc", ".mypy_cache", ".ruff_cache")


class InstallError(RuntimeError):
    """The extension could not be put there; the message says why. Nothing was changed."""


def check(webui: Path) -> None:
    """Raise InstallError unless `webui` looks like a WebUI."""
    if not webui.is_dir():
        raise InstallError(f"{webui} is no folder; --webui wants the folder of a WebUI")
    if not (webui / "launch.py").is_file():
        raise InstallError(f"{webui} has no launch.py; --webui wants the folder of a WebUI")
    if not (webui / "extensions").is_dir():
        raise InstallError(f"{webui} has no folder extensions; --webui wants the folder of a WebUI")


def install(extensions: Path, source: Path = SOURCE) -> Path:
    """Copy the extension into the folder `extensions`, over an older copy, and return where it is now.

    The copy is made beside its place and renamed, so that a WebUI never sees half of it.

    Raises:
        InstallError: the place is a git checkout or a link, which somebody else keeps; or it is not writable.
    """
    target = extensions / NAME
    if target.is_symlink():
        raise InstallError(f"{target} is a link, which WebUIs do not take for an extension; remove it first")
    if (target / ".git").exists():
        raise InstallError(f"{target} is a git checkout; update it with git, or remove it first")
    beside: Path | None = None
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=extensions))
        shutil.copytree(source, beside / "new", ignore=NOT_COPIED)
        _swap(beside / "new", target, beside / "old")
    except OSError as error:
        raise InstallError(f"{target} could not be written: {error}") from error
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)
    return target


def _swap(new: Path, target: Path, old: Path) -> None:
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def python_of(webui: Path) -> Path:
    """The WebUI's own Python, or this one where it has none."""
    places = (webui / "venv" / "bin" / "python", webui / "venv" / "Scripts" / "python.exe")
    return next((place for place in places if place.is_file()), Path(sys.executable))


def start(webui: Path, arguments: Sequence[str]) -> int:
    """Start the WebUI, wait for its end, return its exit code."""
    command = [str(python_of(webui)), "launch.py", *arguments]
    return program.run(command, cwd=webui, env=os.environ)
