"""What is left out, once the WebUI has started: checked, told, answered for."""

from __future__ import annotations

import logging
from typing import Any

from ..hosts.common import disabling, refusals
from ..hosts.common.pruning import remove_loaded
from ..hosts.common.webui import WebUI
from ..pruning import words
from ..pruning.disabled import Remembered
from ..stats.starts import InForce, Start, before_and_after
from .view import LeftOut

log = logging.getLogger("flux_speedup")


def finish(host: WebUI, applied: frozenset[str], demo: Any, app: Any) -> None:
    """The WebUI has started: what was loaded all the same goes, and one line says what is not there."""
    decision = host.pruner().decision
    if decision is None or "pruning" not in applied:
        return
    log.info("%s", words.summary(decision))
    if demo is None:
        removed = remove_loaded(decision)
        if removed:
            log.info("loaded all the same, and taken out again: %s", ", ".join(removed))
    if host.api_is_on():
        refusals.answer_missing_routes(app, decision)


def in_force(host: WebUI, applied: frozenset[str], *, page: bool) -> InForce:
    """What made this start faster."""
    decision = host.pruner().decision
    count = len(decision.left_out) if decision is not None and "pruning" in applied else 0
    return InForce(count, "fast_callbacks" in applied, "lazy_apps" in applied, page)


def shown(host: WebUI, starts: list[Start]) -> LeftOut:
    """What Settings and the tab say of it."""
    decision = host.pruner().missing
    return LeftOut(
        words.summary(decision) if decision is not None else "All scripts are loaded.",
        before_and_after(starts),
        tuple(disabling.candidates(decision)),
        Remembered(host.cache_folder()).names(),
        disabling.why_not(),
    )
