"""ADetailer and the upscalers in a WebUI: which of their functions ask for weights, and where files lie.

Both names of `load_file_from_url` are replaced, as each WebUI has its own home for it and others import the
name from either. What was listed before the redirect was in force (at "Reload UI" ADetailer's script may run
before ours) is completed before the page is built.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...local_models.names import ADETAILER, ESRGAN, FOLDERS
from ...patching.change import AlreadySo, Call, Change, Function, Undo, apply, in_reverse
from .options import flags, opts

if TYPE_CHECKING:
    from ...local_models.redirect import LocalModels

log = logging.getLogger("flux_speedup")
COMMON = "adetailer.common"
FIRST_LISTED = ("UpscalerNone", "UpscalerLanczos", "UpscalerNearest")
REPOSITORIES = ("Bingsu/adetailer", "Bingsu/yolo-world-mirror")
# Of ultralytics: they carried somebody else's code (December 2024).
BAD_RELEASES = ("8.3.41", "8.3.42", "8.3.45", "8.3.46")
LOADERS = ("modules.util", "modules.modelloader")


Models = Callable[[], "LocalModels"]
"""Made when first asked for: preload must not pay for it."""


def adetailer_changes(models: Models) -> list[Change]:
    """In force from the import of ADetailer's library on, before it asks for anything."""
    return [_redirected(COMMON, "hf_download", models), Call(_check_release, module=COMMON)]


def upscaler_changes(models: Models) -> list[Change]:
    return [_where_it_is(module, models) for module in LOADERS]


def completing_changes(models: LocalModels) -> dict[str, Change]:
    """Item -> a change of lists that were built before the item was in force."""
    return {
        "adetailer_weights": Call(partial(complete_adetailer, models)),
        "upscaler_weights": Call(partial(complete_upscalers, models)),
    }


def _where_it_is(module: str, models: Models) -> Change:
    def replace() -> Undo:
        if not hasattr(sys.modules[module], "load_file_from_url"):
            return _nothing
        return apply(_redirected(module, "load_file_from_url", models))

    return Call(replace, module=module)


def _redirected(module: str, name: str, models: Models) -> Function:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(*args: Any, **named: Any) -> Any:
            try:
                answered = getattr(models(), name)
            except Exception:
                log.warning("%s.%s: local weights are not looked for", module, name, exc_info=True)
                return original(*args, **named)
            return answered(original, *args, **named)

        return replacement

    return Function(module, name, make)


def _check_release() -> Undo:
    why = why_bad()
    if why is None:
        return _nothing
    log.warning("%s", why)
    raise AlreadySo(why)


def why_bad() -> str | None:
    """What is wrong with the installed ultralytics; None where nothing is known. Imports nothing of it."""
    try:
        version = metadata.version("ultralytics")
    except metadata.PackageNotFoundError:
        return None
    if version not in BAD_RELEASES:
        return None
    return (
        f"ultralytics {version} was published with a cryptocurrency miner in it; install another release, "
        "such as with pip install --upgrade ultralytics, and check this machine"
    )


def places(kind: str) -> list[Path]:
    """The folders of the running WebUI for a kind of weight."""
    paths = sys.modules.get("modules.paths_internal")
    models = getattr(paths, "models_path", None)
    folder = FOLDERS.get(kind, kind)
    found = [getattr(flags(), f"{kind}_models_path", None)]
    found.append(os.path.join(models, folder) if models else None)  # noqa: PTH118 - a string of the host
    if kind == ADETAILER:
        data = getattr(opts(), "data", None) or {}
        found += str(data.get("ad_extra_models_dir") or "").split("|")
    return [Path(os.path.abspath(each)) for each in found if each and "\0" not in each]  # noqa: PTH100


def complete_adetailer(models: LocalModels) -> Undo:
    """Give the map of ADetailer's script the names and the order that it has with the redirect in force."""
    if bool(getattr(flags(), "ad_no_huggingface", False)):
        return _nothing
    mappings = [mapping for mapping in map(_mapping, _scripts()) if mapping is not None]
    return in_reverse([_complete(mapping, models) for mapping in mappings])


def _complete(mapping: dict[str, str], models: LocalModels) -> Undo:
    asked_for = [entry for entry in models.catalog.of_kind(ADETAILER) if entry.repo in REPOSITORIES]
    before, first = dict(mapping), {}
    for entry in asked_for:
        path = mapping.get(entry.file) or models.path_of(entry)
        if path is not None:
            first[entry.file] = str(path)
    wanted = {**first, **before}
    if list(wanted) == list(before):
        return _nothing
    _fill(mapping, wanted)

    def undo() -> None:
        if mapping == wanted:
            _fill(mapping, before)

    return undo


def _fill(mapping: dict[str, str], content: dict[str, str]) -> None:
    mapping.clear()
    mapping.update(content)


def _mapping(script: Any) -> dict[str, str] | None:
    module = getattr(script, "module", None)
    found = getattr(module, "model_mapping", None)
    ours = getattr(module, "ADETAILER", None) is not None and isinstance(found, dict)
    return found if ours else None


def complete_upscalers(models: LocalModels) -> Undo:
    """Put the ESRGAN weights that lie outside the WebUI's folders into its list, where its sorting puts them."""
    shared, upscaler = sys.modules.get("modules.shared"), sys.modules.get("modules.upscaler")
    listed = getattr(shared, "sd_upscalers", None)
    scaler = next((d.scaler for d in listed or () if getattr(d.scaler, "name", "") == "ESRGAN"), None)
    if scaler is None or upscaler is None or listed is None:
        return _nothing
    names = {data.name for data in listed}
    added = []
    for entry in models.catalog.of_kind(ESRGAN):
        name = Path(entry.file).stem
        path = models.path_of(entry) if name not in names else None
        if path is not None:
            added.append(upscaler.UpscalerData(name, str(path), scaler, 4))
    for data in added:
        scaler.scalers.append(data)
        listed.insert(_place(listed, data.name, upscaler), data)

    def undo() -> None:
        for data in added:
            for where in (scaler.scalers, listed):
                if data in where:
                    where.remove(data)

    return undo


def _place(listed: list[Any], name: str, upscaler: Any) -> int:
    """Where the WebUI's own sorting would put it: its three built-in ones first, then by name."""
    first = tuple(getattr(upscaler, kind) for kind in FIRST_LISTED if hasattr(upscaler, kind))
    after = (
        number
        for number, other in enumerate(listed)
        if not isinstance(other.scaler, first) and other.name.lower() > name.lower()
    )
    return next(after, len(listed))


def _scripts() -> list[Any]:
    return list(getattr(sys.modules.get("modules.scripts"), "scripts_data", ()))


def _nothing() -> None:
    return None
