"""The configuration of this process on this WebUI: read anew whenever it is asked for, each problem told once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..configuration import config, sources
from ..configuration.config import Loaded, Source
from ..hosts.common.webui import WebUI
from .scripts import for_host

log = logging.getLogger("flux_speedup")


class Configured:
    """`folder`: the extension's. sources: those that were read last."""

    def __init__(self, folder: Path, argv: Sequence[str], environ: Mapping[str, str], host: WebUI) -> None:
        self._folder = folder
        self._argv = argv
        self._environ = environ
        self._host = host
        self._said: set[str] = set()
        self.sources: tuple[Source, ...] = ()

    def load(self) -> Loaded:
        gathered = self._gather(self._host.settings())
        loaded = for_host(config.load(gathered.sources), self._host.runs_flux)
        self.sources = gathered.sources
        for problem in (*gathered.problems, *loaded.problems):
            self.say(problem)
        return loaded

    def behind(self) -> Loaded:
        """What is in force while the Settings page says "as configured"."""
        return config.load(self._gather(settings={}).sources)

    def say(self, problem: str) -> None:
        if problem not in self._said:
            self._said.add(problem)
            log.warning("%s", problem)

    def _gather(self, settings: Mapping[str, object] | None) -> sources.Sources:
        return sources.gather(
            self._argv,
            self._environ,
            shipped=self._folder / "config.json",
            data_folder=self._host.data_folder(),
            settings_file=self._host.settings_file(),
            settings=settings,
        )
