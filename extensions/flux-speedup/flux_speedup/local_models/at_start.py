"""What install.py does before every start of the WebUI: nothing, unless the user asked for missing weights."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from ..configuration import config
from ..configuration import sources as config_sources
from ..configuration.config import Source


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
        _fetch(gathered.sources, data, environ)


def _fetch(sources: tuple[Source, ...], data: Path | None, environ: Mapping[str, str]) -> None:
    from . import catalog
    from .digests import Digests
    from .fetch import run, table
    from .fetching import How
    from .hub_cache import cached
    from .kinds import FOLDERS
    from .places import models_folder
    from .resolve import Resolver
    from .transfer import Patience

    known = catalog.load(sources)
    models = models_folder(known, data, environ)
    if models is None:
        sys.stderr.write("[flux-speedup] no folder for models is known; no weights are fetched\n")
        return
    digests = Digests(data / "cache" / "flux-speedup" / "local-models.json" if data else None)

    def places(kind: str) -> list[Path]:
        return [root / FOLDERS.get(kind, kind) for root in {models, data / "models" if data else models}]

    resolver = Resolver(known, places, digests, cached)
    missing = [entry for entry in known.entries if resolver.find(entry).usable is None]
    if missing:
        # A start waits less than a person at a terminal.
        how = How(models, digests, patience=Patience(timeout=10.0, attempts=2))
        sys.stdout.write(table(run(missing, how), models))
