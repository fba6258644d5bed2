"""The extension at work in one process: prepared at preload, registered with the scripts, seen by the tab."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import hosts
from .configuration.config import Loaded
from .features import moments as items
from .features import scripts as items_scripts
from .features.configured import Configured
from .hosts.common import local_weights, options
from .local_models.lazy import LazyLocalModels
from .memory import MemoryPlan, Tier
from .patching.table import PatchTable, State
from .stats.events import STARTUP, WHOLE, Event

if TYPE_CHECKING:
    from .control.acts import Acts
    from .control.control import Control
    from .facts.seen import Decided, Seen
    from .hosts.common.names import Names
    from .local_models.report import LocalWeight
    from .measuring.measured import Measured
    from .stats.statistics import Statistics

log = logging.getLogger("flux_speedup")


class Running:
    """Everything that lives as long as the WebUI's process; `seen` is what is shown of it."""

    def __init__(self, folder: Path, argv: Sequence[str], environ: MutableMapping[str, str]) -> None:
        self._argv = argv
        self._environ = environ
        self._host = hosts.detect()
        self._table = PatchTable(log, lambda act: self._host.inside().when_idle(act))
        self._loaded: Loaded | None = None
        self._plan = MemoryPlan(Tier.NONE, "not decided yet")
        self._card = ""
        self._configured = Configured(folder, argv, environ, self._host)
        self._local_models = LazyLocalModels(
            local_weights.places, lambda: self._cache_file("local-models.json"), self._configured.say
        )
        self._in_force = False
        self._stages_recorded = False
        self._page = False

    # Made when they are first needed: preload must not pay for them.

    @cached_property
    def _statistics(self) -> Statistics:
        from .stats.statistics import Statistics

        return Statistics(self._database, lambda: self._host.read_ahead_progress())

    @cached_property
    def _measured(self) -> Measured:
        from .measuring.measured import Measured, Place

        return Measured(
            Place(
                file=lambda: self._cache_file("machine.json"),
                weights=lambda: self._host.inside().selected_file(),
                device=lambda: self._host.inside().device(),
                card=lambda: self._card,
                busy=lambda: self._host.inside().busy(),
            )
        )

    @cached_property
    def seen(self) -> Seen:
        """What tab, Settings section and API are shown."""
        from .facts.seen import Seen

        return Seen(
            self._host, self._table, self._statistics, self._measured, self._decided, self._local_weights
        )

    @cached_property
    def _acts(self) -> Acts:
        from .control.acts import Acts

        return Acts(self._host, self._table, self._statistics, self._measured, self.seen.look_again)

    @cached_property
    def control(self) -> Control:
        """What tab, Settings section and API may do."""
        from .control.control import Control
        from .control.rules import Rules
        from .hosts.common.names import names

        def called() -> Names:
            return names(options.flags(), self._require_loaded().config.allowed_hosts)

        return Control(self._acts, Rules(called, lambda: self._host.inside().writes_refused()))

    # What the doors call.

    def prepare(self) -> None:
        """Read the configuration and make the changes it asks for. Does nothing while they are in force."""
        if self._in_force:
            return
        self._in_force = True
        self._loaded = self._configured.load()
        self._local_models.configure(self._configured.sources)
        settings = self._loaded.config
        if not settings.enabled:
            log.info("off (%s); the WebUI is as it is without the extension", self._loaded.origin["enabled"])
            return
        card = self._host.card()
        self._card = card.name
        self._plan = items.apply(
            self._table, self._host, card, settings, argv=self._argv, environ=self._environ
        )
        items_scripts.apply_local_models(self._table, self._local_models, settings)

    def register(self) -> None:
        """Register the callbacks: scripts are being loaded, and options are there from now on."""
        loaded = self._require_loaded()
        if loaded.config.enabled:
            record, tracking = self._statistics.record, self._statistics.tracking
            items.apply_with_scripts(self._table, self._host, self._plan, loaded.config, record, tracking)
        host = self._host
        host.on("ui_settings", self._add_settings)
        host.on("script_unloaded", self._reload)
        if not loaded.config.enabled:
            return
        from .ui import hints

        host.on("before_ui", self._complete_local_models)
        host.on("ui_tabs", self._build_tab)
        hints.register(host)
        host.on("app_started", self._app_started)

    # Callbacks.

    def _add_settings(self) -> None:
        from .ui import changes, section, settings

        def panel(**arguments: Any) -> Any:
            result = changes.build(self.seen, self.control, **arguments)
            section.left_out(self.seen, self.control)
            section.traces(self.control)
            return result

        offered = [each for each in settings.OPTIONS if each.has_effect_on(self._host.family)]
        behind = settings.behind(self._configured.behind())
        options.add_our_section(offered, panel, self._master_switch_changed, behind)

    def _build_tab(self) -> list[tuple[Any, str, str]]:
        from .ui import tab

        return [(tab.build(self.seen, self.control), "Flux Speedup", "flux_speedup")]

    def _complete_local_models(self) -> None:
        if self._require_loaded().config.local_models:
            items_scripts.complete_local_models(self._table, self._local_models())

    def _app_started(self, demo: Any, app: Any) -> None:
        items.apply_when_started(self._table, self._host, self._require_loaded().config)
        self._table.settle()
        self._complete_local_models()
        from .facts import left_out

        self._page = demo is not None
        if not options.has_our_section():
            # Without a page some WebUIs ask nobody for options, which the API sets all the same.
            self._add_settings()
        left_out.finish(self._host, self._table.applied(), demo, app)
        self._record_startup()
        if self._host.api_is_on():
            from . import api
            from .hosts.common.credentials import Credentials

            login = api.gradio_login(app) if demo is not None else None
            access = api.Access(Credentials.of(options.flags(), page=self._page), login)
            api.register(app, self.seen, access, self.control)
        status = self.seen.status()
        failed = ", ".join(o.title for o in status.outcomes if o.state is State.FAILED)
        log.info(
            "%s, %s (%s): %d changes in force%s",
            status.host,
            f"{status.tier} tier" if self._plan.tier is not Tier.NONE else "no memory tier",
            status.tier_why,
            len(self._table.applied()),
            f"; failed: {failed}" if failed else "",
        )
        if self._require_loaded().config.local_models:
            from .local_models.report import summary

            log.info("local weights: %s", summary(self._local_weights()))

    def _reload(self) -> None:
        """ "Reload UI": leave nothing behind; the scripts door prepares everything anew if it is still there."""
        self._host.inside().wait_and(self._table.put_back)
        self._table.forget()
        self._in_force = False
        self._host.pruner().forget()
        # Scripts are listed before our door is there again; where it is gone, the listing puts this back.
        if (settings := self._configured.load().config).enabled:
            items_scripts.at_listing(self._table, self._host, self._plan, settings)

    def _master_switch_changed(self) -> None:
        settings = self._host.settings() or {}
        if settings.get("flux_speedup_enabled") == "off":
            self._acts.switched_off()

    # Helpers.

    def _decided(self) -> Decided:
        from .facts.seen import Decided

        return Decided(self._require_loaded(), self._plan, self._card, self._page)

    def _database(self) -> tuple[Path | None, int]:
        return self._cache_file("statistics.sqlite3"), self._require_loaded().config.statistics_rows

    def _cache_file(self, name: str) -> Path | None:
        folder = self._host.cache_folder()
        return folder / name if folder else None

    def _local_weights(self) -> tuple[LocalWeight, ...]:
        """Looks at folders, computes no digest. Empty where it is turned off."""
        settings = self._require_loaded().config
        return self._local_models().report() if settings.enabled and settings.local_models else ()

    def _record_startup(self) -> None:
        if self._stages_recorded or not self._require_loaded().config.statistics:
            return
        self._stages_recorded = True
        from .facts import left_out

        now = time.time()
        was = left_out.in_force(self._host, self._table.applied(), page=self._page).text()
        for stage, seconds in self._host.startup_stages():
            detail = was if stage == WHOLE else ""
            self._statistics.record(Event(STARTUP, stage, 0, seconds, "", "", now, detail))

    def _require_loaded(self) -> Loaded:
        if self._loaded is None:
            self.prepare()
        assert self._loaded is not None
        return self._loaded
