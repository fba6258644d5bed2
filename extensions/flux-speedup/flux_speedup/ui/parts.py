"""The parts of the tab that follow the view, each from one reading of it."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..stats.events import STARTUP, Event, Query
from . import cards, loads, local, machine, memory, models, packed, rates, requests, start
from .words import card, safe, when

STAGES = 500
LOG_LINES = 20
NAMES = (
    "head",
    "status",
    "requests",
    "rates",
    "loads",
    "machine",
    "packed",
    "memory",
    "models",
    "start",
    "local",
    "log",
)

if TYPE_CHECKING:
    from ..facts.seen import Seen
log = logging.getLogger("flux_speedup")


def values(view: Seen, chosen: str | None, names: Sequence[str] = NAMES) -> dict[str, str]:
    """HTML by name; `chosen`: the key of the request to show, None for the newest."""
    now = time.time()

    @functools.cache
    def stages() -> list[Event]:
        return start.latest(view.events(Query(STARTUP, limit=STAGES)))

    @functools.cache
    def events() -> list[Event]:
        return loads.newest(view)

    makers: dict[str, Callable[[], str]] = {
        "head": lambda: cards.head(view.status(), view.savings(), view.totals(), stages()),
        "status": lambda: cards.status_card(view.status()),
        "requests": lambda: requests.request_card(view.requests(), chosen, now),
        "rates": lambda: rates.chart_card(events(), view.machine(), now),
        "loads": lambda: loads.table_card(events(), now),
        "machine": lambda: machine.machine_card(view.machine(), view.totals(), now),
        "packed": lambda: packed.packed_card(view.packed()),
        "memory": lambda: memory.memory_card(view.memory()),
        "models": lambda: models.models_card(view.models()),
        "start": lambda: start.start_card(view.starts(), stages(), now, view.first_image()),
        "local": lambda: local.local_card(view.local_weights()),
        "log": lambda: cards.log_card(view.log_lines(LOG_LINES)),
    }
    return {name: _made(name, makers[name]) for name in names}


def pulse(view: Seen) -> str:
    """How fresh the figures are, for people; and what live.js looks at: the rate, whether a measurement runs,
    and a mark that every answer changes."""
    running = int(view.measuring().state == machine.RUNNING)
    every = view.refresh_seconds()
    rate = f"refreshed every {every:g} s while you look" if every > 0 else "refreshed when you ask"
    return (
        f'<div class="fsu fsu-soft fsu-small" data-fsu-refresh="{every:g}" data-fsu-measuring="{running}" '
        f'data-fsu-tick="{time.monotonic_ns()}">As of {when(time.time(), time.time())}, {rate}.</div>'
    )


def _made(name: str, make: Callable[[], str]) -> str:
    """The part's HTML; one that cannot be read says so in its place and takes no other part with it."""
    try:
        return make()
    except Exception as error:
        log.exception("the tab's part %s could not be read", name)
        return card(name.capitalize(), cards.result(f"This could not be read: {safe(error)}", good=False))
