"""Items of the start: what is in force when scripts are listed and requests name what is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..configuration.config import DEFAULT, Config, Loaded
from ..configuration.sources import SHIPPED
from ..hosts.common import callbacks, gradio_apps, local_weights
from ..hosts.common.webui import WebUI
from ..memory import MemoryPlan, Tier
from ..patching.table import PatchTable, State
from .switch import SWITCHED_OFF, switch

if TYPE_CHECKING:
    from ..local_models.redirect import LocalModels
    from ..pruning.surroundings import Wishes

ADETAILER_WEIGHTS = "ADetailer's weights from local files"
UPSCALER_WEIGHTS = "Upscalers' weights from local files"
PRUNING = "Scripts that Flux does not need are not loaded"
NO_FLUX = "this WebUI cannot run Flux: nothing is left out unless the configuration asks for it"
NO_LIST = "the configuration names no script"
NOBODY_ASKED = frozenset({DEFAULT, SHIPPED})
REFUSALS = "Requests for scripts that are not loaded are refused"


def at_listing(table: PatchTable, host: WebUI, decided: MemoryPlan, config: Config) -> None:
    """What must be in force when scripts are listed: at preload, and again before "Reload UI" lists them."""
    there = table.applied()
    if "fast_callbacks" not in there:
        item = ("fast_callbacks", "Fast registration of callbacks", "no source code is read for it")
        switch(table, config.fast_callbacks, item, callbacks.changes())
    if "lazy_apps" not in there:
        item = (
            "lazy_apps",
            "Web apps of inner pages are made when needed",
            "gradio makes two for each of them",
        )
        switch(table, config.lazy_apps, item, gradio_apps.changes())
    if "pruning" in there:
        return
    if config.pruning and not _leaves_something_out(config):
        table.note("pruning", PRUNING, State.SKIPPED, NO_FLUX if not host.runs_flux else NO_LIST)
        return
    item = ("pruning", PRUNING, 'nothing here uses them; put back, they are loaded at the next "Reload UI"')
    small = decided.tier is not Tier.LARGE and host.card().is_gpu is not False
    switch(
        table,
        config.pruning,
        item,
        host.pruner().changes(lambda: wishes(config), small, table.put_back) if config.pruning else [],
    )


def for_host(loaded: Loaded, runs_flux: bool) -> Loaded:
    """What is asked for where a WebUI cannot run Flux: our list is none, unless somebody asked for it."""
    asked = {loaded.origin["pruning"], loaded.origin["left_out"]} - NOBODY_ASKED
    if runs_flux or asked:
        return loaded
    return replace(
        loaded,
        config=replace(loaded.config, left_out=()),
        origin={**loaded.origin, "left_out": "this WebUI cannot run Flux"},
    )


def _leaves_something_out(config: Config) -> bool:
    from ..pruning.catalog import GROUPS, LEAVE_OUT

    return bool(config.left_out) or any(getattr(config, key) == LEAVE_OUT for key in GROUPS)


def wishes(config: Config) -> Wishes:
    """The part of the configuration that decides what is left out."""
    from ..pruning.catalog import GROUPS
    from ..pruning.surroundings import Wishes

    groups = {key: str(getattr(config, key)) for key in GROUPS}
    return Wishes(config.left_out, config.keep, groups)


def arm_refusals(table: PatchTable, host: WebUI, config: Config) -> None:
    """What answers requests for what is left out."""
    if not config.pruning:
        table.note("refusals", REFUSALS, State.SKIPPED, SWITCHED_OFF)
    elif not _leaves_something_out(config):
        table.note("refusals", REFUSALS, State.SKIPPED, "nothing is left out")
    elif not host.api_is_on():
        table.note("refusals", REFUSALS, State.SKIPPED, "this WebUI serves no API")
    else:
        from ..hosts.common import refusals

        pruner = host.pruner()
        why = "a request that names one gets 422 instead of a different image"
        table.add("refusals", REFUSALS, why, refusals.changes(lambda: pruner.missing))


def apply_local_models(table: PatchTable, models: Callable[[], LocalModels], config: Config) -> None:
    """At preload: ADetailer's script asks for its weights while it is imported, which may be before ours."""
    why = "weights that are on this machine are not asked for on the network"
    adetailer = ("adetailer_weights", ADETAILER_WEIGHTS, why)
    switch(table, config.local_models, adetailer, local_weights.adetailer_changes(models))
    upscalers = ("upscaler_weights", UPSCALER_WEIGHTS, why)
    switch(table, config.local_models, upscalers, local_weights.upscaler_changes(models))


def complete_local_models(table: PatchTable, models: LocalModels) -> None:
    """Before the page is built: what was listed while the redirect was not in force yet."""
    for key, change in local_weights.completing_changes(models).items():
        if key in table.applied():
            table.extend(key, [change])
