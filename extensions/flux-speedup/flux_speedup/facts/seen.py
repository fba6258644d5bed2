"""What tab, Settings section and API see of the extension at work; what they may do is in `control`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .. import __version__, ram
from ..configuration import config
from ..configuration.config import AS_CONFIGURED, Loaded
from ..configuration.kinds import BadValue
from ..configuration.sources import OPTION_PREFIX
from ..hosts.common.webui import WebUI
from ..log import RING
from ..measuring.measured import Measured
from ..memory import MemoryPlan
from ..patching.table import PatchTable, State
from ..stats.events import NEWEST, STARTUP, WHOLE, Event, Query, Totals
from ..stats.first_image import FirstImage
from ..stats.machine import Machine, Measuring, Savings
from ..stats.requests import Request
from ..stats.starts import InForce, Start
from ..stats.statistics import Statistics
from ..weights.packed.progress import PackedNow
from . import bug_report, left_out
from .checkpoints import nearest
from .view import Checkpoint, ConfigRow, LeftOut, MemoryUse, Status, StreamedUse, Value

if TYPE_CHECKING:
    from ..hosts.common.inside import Model
    from ..hosts.common.sampling import Streamed
    from ..local_models.report import LocalWeight

log = logging.getLogger("flux_speedup")
FRESH_S = 1.0
STARTS = 1000
SIMULATED = "the device is simulated: its figures say nothing of a GPU"
NO_GPU = "there is no GPU here: nothing moves, and nothing is saved by not moving"
NOBODY_ELSE_DECIDED = ("command line", "environment")


@dataclass(frozen=True)
class Decided:
    """What the configuration and the card came to at preload, and whether there is a page."""

    loaded: Loaded
    plan: MemoryPlan
    card: str
    page: bool


class Seen:
    """Reads: cheap, and safe from any thread."""

    def __init__(
        self,
        host: WebUI,
        table: PatchTable,
        statistics: Statistics,
        measured: Measured,
        decided: Callable[[], Decided],
        local_weights: Callable[[], Sequence[LocalWeight]],
    ) -> None:
        self._host = host
        self._table = table
        self._statistics = statistics
        self._measured = measured
        self._decided = decided
        self._local_weights = local_weights
        self._memory_lock = threading.Lock()
        self._memory: tuple[float, MemoryUse] | None = None

    def status(self) -> Status:
        decided = self._decided()
        outcomes = self._table.outcomes()
        states = {outcome.state for outcome in outcomes}
        put_back = State.UNDONE in states and not states & {State.APPLIED, State.PENDING}
        return Status(
            __version__,
            self._host.name,
            decided.loaded.config.enabled and not put_back,
            decided.card,
            decided.plan.tier.value,
            decided.plan.why,
            self._host.simulated(),
            outcomes,
        )

    def config(self) -> list[ConfigRow]:
        loaded = self._decided().loaded
        return [
            ConfigRow(
                each.key,
                _shown(getattr(loaded.config, each.key)),
                loaded.origin[each.key],
                _shown(each.default),
                each.kind.allowed,
                each.group,
                each.help,
                each.hosts,
                each.restart,
                each.private,
            )
            for each in config.SETTINGS.values()
        ]

    # Figures.

    def events(self, asked: Query = NEWEST) -> list[Event]:
        return self._statistics.events(asked) if self._kept() else []

    def totals(self) -> Totals:
        return self._statistics.totals()

    def requests(self, limit: int = 20) -> list[Request]:
        """The newest requests, newest first, of all processes; one still running comes first."""
        return self._statistics.requests(limit) if self._kept() else []

    def newest_here(self) -> Request | None:
        """The newest request of this process."""
        return self._statistics.newest_here()

    def first_image(self) -> FirstImage | None:
        """What the first image of this process waited for, once it is made."""
        return self._statistics.first_image()

    def savings(self) -> Savings:
        nothing = ""
        if self._host.simulated():
            nothing = SIMULATED
        elif self._host.inside().device() is None:
            nothing = NO_GPU
        return self._statistics.savings(self.machine(), nothing)

    def starts(self) -> list[Start]:
        """Recorded starts of the WebUI on this machine, newest first."""
        return [
            Start(each.at, each.seconds, was.told())
            for each in self.events(Query(STARTUP, model=WHOLE, limit=STARTS))
            if each.what == WHOLE
            and (was := InForce.parse(each.detail)) is not None
            and was.page is self._decided().page
        ]

    # Memory and models.

    def memory(self) -> MemoryUse:
        with self._memory_lock:
            if self._memory is None or time.monotonic() - self._memory[0] > FRESH_S:
                self._memory = (time.monotonic(), _memory(self._host))
            return self._memory[1]

    def models(self) -> list[Model]:
        """Built checkpoints, the one in use first."""
        return self._host.inside().models()

    def checkpoints(self) -> list[Checkpoint]:
        """All that the WebUI lists, the nearest to the next image first: a few milliseconds."""
        inside = self._host.inside()
        return nearest(inside.checkpoints(), inside.in_memory(), self.machine(), self.totals())

    def look_again(self) -> None:
        """What was read of memory is no longer true."""
        with self._memory_lock:
            self._memory = None

    def local_weights(self) -> list[LocalWeight]:
        return list(self._local_weights())

    # What is left out.

    def left_out(self) -> LeftOut:
        """What is not loaded in this process, and what the WebUI's own list has of it."""
        return left_out.shown(self._host, self.starts())

    # This machine.

    def machine(self) -> Machine | None:
        return self._measured.machine()

    def measuring(self) -> Measuring:
        return self._measured.measuring()

    def packed(self) -> PackedNow:
        """Packed files that are there and that are made, and what they bring or would bring here."""
        packing, inside = self._host.packing(), self._host.inside()
        now = PackedNow() if packing is None else packing.now()
        path = inside.selected_file()
        if path is None or getattr(inside.device(), "type", "") != "cuda":
            return now
        from ..weights.packed.worth import worth

        return replace(now, says=worth(path, self.machine(), now.on))

    # For people.

    def log_lines(self, limit: int = 20) -> list[str]:
        """The newest lines of the extension's log, oldest first."""
        return RING.lines(limit)

    def refresh_seconds(self) -> float:
        """How often the tab refreshes itself; 0 for never."""
        loaded = self._decided().loaded
        chosen = (self._host.settings() or {}).get(OPTION_PREFIX + "refresh_s", AS_CONFIGURED)
        if loaded.origin["refresh_s"] not in NOBODY_ELSE_DECIDED and chosen != AS_CONFIGURED:
            try:
                return float(str(config.SETTINGS["refresh_s"].kind.parse(chosen)))
            except BadValue:
                log.debug("refresh_s = %r does not fit", chosen)
        return loaded.config.refresh_s

    def bug_report(self) -> str:
        """Versions, status, configuration and the newest figures, without paths, names or prompts."""
        return bug_report.text(
            self.status(),
            self.config(),
            [each for each in self.events(Query(limit=60)) if each.kind != STARTUP][:20],
            self.requests(5),
            self.machine(),
            self.savings(),
            self.memory(),
        )

    def _kept(self) -> bool:
        return self._decided().loaded.config.statistics


def _shown(value: config.Value) -> Value:
    return ", ".join(value) if isinstance(value, tuple) else value


def _memory(host: WebUI) -> MemoryUse:
    inside = host.inside()
    vram = inside.vram()
    page_cache, pinned = inside.weights_in_ram()
    available, total = ram.available_and_total()
    return MemoryUse(
        vram_by_model=inside.vram_by_model(),
        vram_used=vram[0] if vram is not None else None,
        vram_total=vram[1] if vram is not None else None,
        page_cache=page_cache,
        anonymous=ram.anonymous(),
        pinned=pinned,
        ram_available=available,
        ram_total=total,
        streamed=tuple(_streamed(each) for each in host.streams()),
        inference=inside.inference(),
        registered=None if pinned is None else ram.HELD.file_bytes,
    )


def _streamed(one: Streamed) -> StreamedUse:
    return StreamedUse(one.name, one.resident, one.coming, one.ring, one.held, one.source)
