"""Which checkpoint the WebUI is going to load, as its settings file and flags say it from outside."""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from ..storage import json_file

FOLDER = "Stable-diffusion"
_HASH = re.compile(r" \[[0-9a-f]+\]$")


@dataclass(frozen=True)
class Flags:
    """Those of the WebUI that say where its checkpoints are; relative paths begin at its own folder."""

    settings_file: Path
    checkpoint: Path | None
    folders: tuple[Path, ...]
    hashes: bool

    @classmethod
    def of(cls, words: Sequence[str], data: Path, checkout: Path) -> Flags:
        """From the command line. Raises ValueError, argparse.ArgumentError."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        for flag in ("--ckpt", "--models-dir", "--ui-settings-file"):
            parser.add_argument(flag)
        parser.add_argument("--ckpt-dir", "--ckpt-dirs", action="append", default=[])
        parser.add_argument("--no-hashing", action="store_true")
        found, _ = parser.parse_known_args(list(words))
        models = checkout / found.models_dir if found.models_dir else data / "models"
        return cls(
            checkout / found.ui_settings_file if found.ui_settings_file else data / "config.json",
            checkout / found.ckpt if found.ckpt else None,
            (*(checkout / each for each in found.ckpt_dir), models / FOLDER),
            not found.no_hashing,
        )


def selected(flags: Flags) -> tuple[str, Path] | None:
    """What the host's cache calls it, and its file; None where nobody can say."""
    if flags.checkpoint is not None:
        return (flags.checkpoint.name, flags.checkpoint) if flags.checkpoint.is_file() else None
    named = _setting(flags, "sd_model_checkpoint")
    if not isinstance(named, str) or not named:
        return None
    name = _HASH.sub("", named)
    files = (folder / name for folder in flags.folders)
    return next(((name, file) for file in files if file.is_file()), None)


def others_of(flags: Flags) -> list[Path]:
    """The files that are loaded with it: text encoders, VAE."""
    listed = _setting(flags, "forge_additional_modules")
    return [Path(each) for each in listed if isinstance(each, str)] if isinstance(listed, list) else []


def _setting(flags: Flags, key: str) -> object:
    with suppress(OSError, ValueError):
        return json_file.read(flags.settings_file).get(key)
    return None


def is_hashed(name: str, data: Path, environ: Mapping[str, str]) -> bool:
    """Whether the host's own cache has a hash for it."""
    key = f"checkpoint/{name}"
    with suppress(OSError, ValueError, AttributeError, TypeError, RecursionError):
        file = Path(environ.get("SD_WEBUI_CACHE_FILE", data / "cache.json"))
        if key in json.loads(file.read_text(encoding="utf-8"))["hashes"]:
            return True
    database = Path(environ.get("SD_WEBUI_CACHE_DIR", data / "cache")) / "hashes" / "cache.db"
    with suppress(OSError, ValueError, sqlite3.Error):
        if database.is_file():
            address = f"{database.resolve().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=1)) as opened:
                return opened.execute("SELECT 1 FROM Cache WHERE key = ?", (key,)).fetchone() is not None
    return False
