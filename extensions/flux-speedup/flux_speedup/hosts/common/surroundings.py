"""What pruning has to know of this WebUI, read from `modules.*` and a few folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...pruning import references
from ...pruning.catalog import ENTRIES
from ...pruning.surroundings import Folder, Mentions, Surroundings
from ...storage import json_file

WEIGHTS = frozenset({".safetensors", ".pth", ".ckpt", ".pt", ".bin", ".patch", ".gguf"})


def gather(small_card: bool, disabled_by_us: frozenset[str]) -> Surroundings:
    """The surroundings of this start; extensions must be listed and options loaded."""
    from modules import extensions, shared

    active = {extension.path for extension in extensions.active()}
    folders = tuple(_folder(extension, extension.path in active) for extension in extensions.extensions)
    options = dict(shared.opts.data)
    return Surroundings(
        core=_stems(Path(_script_path()) / "scripts"),
        folders=folders,
        ui_defaults=_ui_defaults(shared.cmd_opts),
        options=options,
        upscalers=_upscalers(shared.cmd_opts),
        small_card=small_card,
        controlnet_weight=_controlnet_weight(shared.cmd_opts, options, folders),
        disabled_by_us=disabled_by_us,
        mentions=lambda paths: _mentions([folder for folder in folders if folder.path in paths]),
    )


def _mentions(folders: list[Folder]) -> Mentions:
    return lambda words: references.find(folders, words)


def _folder(extension: Any, enabled: bool) -> Folder:
    path = Path(extension.path)
    return Folder(
        name=extension.name,
        path=extension.path,
        builtin=bool(extension.is_builtin),
        enabled=enabled,
        scripts=_stems(path / "scripts"),
        requires=_requires(extension),
        packages=references.packages(path),
    )


def _requires(extension: Any) -> frozenset[str]:
    """Every name under `Requires` in metadata.ini, whatever its section; alternatives count as all of them."""
    settings = getattr(getattr(extension, "metadata", None), "config", None)
    found: set[str] = set()
    if settings is None:
        return frozenset()
    for section in settings.sections():
        text = settings.get(section, "Requires", fallback="")
        found.update(word for word in text.lower().replace(",", " ").replace("|", " ").split() if word)
    return frozenset(found)


def _stems(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(item.stem for item in folder.iterdir() if item.suffix.lower() == ".py"))
    except OSError:
        return ()


def _script_path() -> str:
    paths = sys.modules.get("modules.paths_internal") or sys.modules.get("modules.paths")
    return str(getattr(paths, "script_path", "."))


def _models_path() -> Path:
    return Path(str(getattr(sys.modules.get("modules.paths_internal"), "models_path", "models")))


def _ui_defaults(arguments: Any) -> Mapping[str, object]:
    file = Path(str(getattr(arguments, "ui_config_file", "") or "ui-config.json"))
    try:
        return json_file.read(file)
    except (OSError, ValueError):
        return {}


def _upscalers(arguments: Any) -> dict[str, frozenset[str]]:
    """Upscalers are named after the files of their folder."""
    found = {}
    for entry in ENTRIES:
        if entry.weights:
            flag = getattr(arguments, f"{entry.weights.lower()}_models_path", None)
            folders = [_models_path() / entry.weights, *([Path(flag)] if flag else [])]
            found[entry.stem] = frozenset(file.stem for folder in folders for file in _files(folder))
    return found


def _controlnet_weight(arguments: Any, options: Mapping[str, object], folders: tuple[Folder, ...]) -> str:
    """The name of one ControlNet weight that the WebUI would offer, or ""."""
    named = (getattr(arguments, "controlnet_dir", None), options.get("control_net_models_path"))
    places = [_models_path() / "ControlNet", *(Path(str(place)) for place in named if place)]
    for folder in folders:
        if "controlnet" in folder.scripts and not folder.builtin:
            places.append(Path(folder.path) / "models")
    return next((file.name for place in places for file in _files(place)), "")


def _files(folder: Path) -> list[Path]:
    found = []
    for place, _, names in os.walk(folder, followlinks=True):
        found += [Path(place) / name for name in sorted(names) if Path(name).suffix.lower() in WEIGHTS]
        if len(found) > 1000:
            break
    return found
