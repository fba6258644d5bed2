"""What install.py does before every start of the WebUI: nothing, unless the user asked for missing weights."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..configuration import config
from ..configuration import sources as config_sources
from ..configuration.config import Source

LIMIT_S = 60.0
"""No start is held longer than this."""


def main(folder: Path, environ: Mapping[str, str]) -> None:
    """Fetch what is missing, where that is turned on; never fails the start. `folder`: the extension's."""
    from .places import data_folder

    data = data_folder(folder)
    gathered = config_sources.gather(
        [],
        environ,
        shipped=folder / "config.json",
        data_folder=data,
        settings_file=data / "config.json" if data else None,
    )
    # What is wrong with the configuration is said when the WebUI itself reads it.
    wanted = config.load(gathered.sources).config
    if wanted.enabled and wanted.local_models and wanted.fetch_at_start:
        _fetch(folder, gathered.sources, data, environ)


def _fetch(folder: Path, sources: tuple[Source, ...], data: Path | None, environ: Mapping[str, str]) -> None:
    from . import catalog
    from .digests import Digests
    from .hub import cached
    from .names import FOLDERS
    from .places import models_folder
    from .resolve import Resolver

    known = catalog.load(sources)
    models = models_folder(known, data, environ)
    if models is None:
        sys.stderr.write("[flux-speedup] no folder for models is known; no weights are fetched\n")
        return
    digests = Digests(data / "cache" / "flux-speedup" / "local-models.json" if data else None)

    def places(kind: str) -> list[Path]:
        return [root / FOLDERS.get(kind, kind) for root in {models, data / "models" if data else models}]

    resolver = Resolver(known, places, digests, cached)
    missing = [entry.file for entry in known.entries if resolver.find(entry).usable is None]
    if missing:
        _in_a_process(folder, missing, models, environ)


def _in_a_process(folder: Path, names: Sequence[str], models: Path, environ: Mapping[str, str]) -> None:
    """The command line of people; a process can be ended whatever it waits for."""
    command = [sys.executable, str(folder / "fetch.py"), "--quick", "--dest", str(models), "--", *names]
    try:
        done = subprocess.run(
            command, env=dict(environ), stdout=subprocess.PIPE, check=False, timeout=LIMIT_S, text=True
        )
    except subprocess.TimeoutExpired:
        sys.stderr.write(
            f"[flux-speedup] not all weights came within {LIMIT_S:.0f} s; the WebUI starts without the rest, "
            "and the next start goes on with it\n"
        )
    else:
        sys.stdout.write(done.stdout)
