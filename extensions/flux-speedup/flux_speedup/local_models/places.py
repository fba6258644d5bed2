"""The WebUI's folders as they can be told from outside of it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .catalog import Catalog

SIGNS = ("models", "webui.py", "config.json", "flux-speedup.json")


def data_folder(folder: Path) -> Path | None:
    """The WebUI's data folder: what holds the outermost `extensions` folder that the extension lies in.

    None where there is no WebUI around it.
    """
    found = [parent.parent for parent in folder.resolve().parents if parent.name == "extensions"]
    return next((each for each in reversed(found) if any((each / sign).exists() for sign in SIGNS)), None)


def models_folder(known: Catalog, data: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Where weights go that nobody gave a place: the catalog's folder, else the WebUI's models."""
    if known.folder is not None:
        return known.folder
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    flags.add_argument("--models-dir")
    try:
        found, _ = flags.parse_known_args(shlex.split(environ.get("COMMANDLINE_ARGS", "")))
    except (argparse.ArgumentError, ValueError):
        return data / "models" if data else None
    named = found.models_dir
    return Path(named) if named else data / "models" if data else None
