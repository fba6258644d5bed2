"""The extension at work in one process: prepared at preload, registered with the scripts, seen by the tab."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, config, config_sources, hosts, items
from .config import Loaded
from .memory import MemoryPlan, Tier
from .patches import PatchTable, State
from .stats.events import STARTUP, Event, Totals
from .view import ConfigRow, LeftOut, Status

if TYPE_CHECKING:
    from .stats.recorder import Recorder

STARTS = 3_000

log = logging.getLogger("flux_speedup")


class Running:
    """Everything that lives as long as the WebUI's process. Implements `view.View`."""

    def __init__(self, folder: Path, argv: Sequence[str], environ: MutableMapping[str, str]) -> None:
        self._folder = folder
        self._argv = argv
        self._environ = environ
        self._host = hosts.detect()
        self._table = PatchTable(log)
        self._recorder: Recorder | None = None
        self._loaded: Loaded | None = None
        self._plan = MemoryPlan(Tier.NONE, "not decided yet")
        self._card = ""
        self._said: set[str] = set()
        self._in_force = False
        self._stages_recorded = False
        self._page = False

    # What the doors call.

    def prepare(self) -> None:
        """Read the configuration and make the changes it asks for. Does nothing while they are in force."""
        if self._in_force:
            return
        self._in_force = True
        self._loaded = self._load_configuration()
        settings = self._loaded.config
        if not settings.enabled:
            log.info("off (%s); the WebUI is as it is without the extension", self._loaded.origin["enabled"])
            return
        card = self._host.card()
        self._card = card.name
        self._plan = items.apply(
            self._table, self._host, card, settings, argv=self._argv, environ=self._environ
        )

    def register(self) -> None:
        """Register the callbacks: scripts are being loaded, and options are there from now on."""
        loaded = self._require_loaded()
        if loaded.config.enabled:
            items.apply_with_scripts(self._table, self._host, self._plan, loaded.config, self._record)
        host = self._host
        host.on("ui_settings", self._add_settings)
        host.on("script_unloaded", self._reload)
        if not loaded.config.enabled:
            return
        host.on("ui_tabs", self._build_tab)
        host.on("app_started", self._app_started)

    # What tab, settings section and API call (view.View).

    def status(self) -> Status:
        loaded = self._require_loaded()
        return Status(
            __version__,
            self._host.name,
            loaded.config.enabled,
            self._card,
            self._plan.tier.value,
            self._plan.why,
            self._host.simulated(),
            self._table.outcomes(),
        )

    def events(
        self, *, since: float | None = None, kind: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[Event]:
        if not self._require_loaded().config.statistics:
            return []
        return self._made_recorder().events(since=since, kind=kind, limit=limit, offset=offset)

    def totals(self) -> Totals:
        return self._recorder.totals() if self._recorder is not None else Totals.of([])

    def config(self) -> list[ConfigRow]:
        loaded = self._require_loaded()
        return [
            ConfigRow(key, _shown(getattr(loaded.config, key)), loaded.origin[key]) for key in config.KINDS
        ]

    def keep_only(self, items: Sequence[str]) -> Status:
        self._table.put_back(self._table.applied() - set(items))
        return self.status()

    def put_everything_back(self) -> Status:
        self._table.put_back()
        log.info("everything is put back; the next start applies it again")
        return self.status()

    def left_out(self) -> LeftOut:
        from . import left_out

        return left_out.shown(self._host, self.events(kind=STARTUP, limit=STARTS), page=self._page)

    def disable_left_out(self) -> str:
        from . import left_out

        return left_out.disable(self._host)

    def undo_disabled(self) -> str:
        from . import left_out

        return left_out.undo(self._host)

    # Callbacks.

    def _add_settings(self) -> None:
        from .ui import changes, pruning, settings

        def panel(**arguments: Any) -> Any:
            result = changes.build(self, **arguments)
            pruning.build(self)
            return result

        self._host.add_settings(settings.OPTIONS, panel, self._master_switch_changed)

    def _build_tab(self) -> list[tuple[Any, str, str]]:
        from .ui import tab

        return [(tab.build(self), "Flux Speedup", "flux_speedup")]

    def _app_started(self, demo: Any, app: Any) -> None:
        self._table.settle()
        from . import left_out

        self._page = demo is not None
        left_out.finish(self._host, self._table.applied(), demo, app)
        self._record_startup()
        if self._host.api_is_on():
            from . import api

            login = api.gradio_login(app) if demo is not None else None
            api.register(app, self, api.Access(self._host.api_auth(), login))
        status = self.status()
        failed = [o.title for o in status.outcomes if o.state is State.FAILED]
        log.info(
            "%s, %s (%s): %d changes in force%s",
            status.host,
            f"{status.tier} tier" if self._plan.tier is not Tier.NONE else "no memory tier",
            status.tier_why,
            len(self._table.applied()),
            f"; failed: {', '.join(failed)}" if failed else "",
        )

    def _reload(self) -> None:
        """ "Reload UI": leave nothing behind; the scripts door prepares everything anew if it is still there."""
        self._table.put_back()
        self._in_force = False
        self._host.pruner().forget()
        # Scripts are listed before our door is there again; where it is gone, the listing puts this back.
        settings = self._load_configuration().config
        if settings.enabled:
            items.at_listing(self._table, self._host, self._plan, settings)

    def _master_switch_changed(self) -> None:
        settings = self._host.settings() or {}
        if settings.get("flux_speedup_enabled") == "off":
            self.put_everything_back()

    # Helpers.

    def _record(self, event: Event) -> None:
        self._made_recorder().record(event)

    def _made_recorder(self) -> Recorder:
        # Made when it is first needed: preload must not pay for SQLite.
        if self._recorder is None:
            from .stats.recorder import Recorder
            from .stats.store import Store

            rows = self._require_loaded().config.statistics_rows
            folder = self._host.cache_folder()
            store = Store(folder / "statistics.sqlite3", max_rows=rows) if folder else None
            self._recorder = Recorder(store)
        return self._recorder

    def _record_startup(self) -> None:
        if self._stages_recorded or not self._require_loaded().config.statistics:
            return
        self._stages_recorded = True
        now = time.time()
        from . import left_out
        from .stats.starts import WHOLE

        was = left_out.in_force(self._host, self._table.applied(), page=self._page).text()
        for stage, seconds in self._host.startup_stages():
            self._record(Event(STARTUP, stage, 0, seconds, "", "", now, was if stage == WHOLE else ""))

    def _load_configuration(self) -> Loaded:
        gathered = config_sources.gather(
            self._argv,
            self._environ,
            shipped=self._folder / "config.json",
            data_folder=self._host.data_folder(),
            settings_file=self._host.settings_file(),
            settings=self._host.settings(),
        )
        loaded = config.load(gathered.sources)
        for problem in (*gathered.problems, *loaded.problems):
            if problem not in self._said:
                self._said.add(problem)
                log.warning("%s", problem)
        return loaded

    def _require_loaded(self) -> Loaded:
        if self._loaded is None:
            self.prepare()
        assert self._loaded is not None
        return self._loaded


def _shown(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, tuple) else value
