"""Which items the patch table gets: the configuration and the tier's plan turned into changes of the host."""

from __future__ import annotations

import sys
from collections.abc import Callable, MutableMapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from . import torch_setup
from .changes import Call, Change, Undo
from .config import Config
from .hosts.webui import NOT_AVAILABLE, WebUI
from .memory import GIB, Card, MemoryPlan, Tier, TierRules, plan
from .patches import PatchTable, State
from .stats.events import Event

if TYPE_CHECKING:
    from .local_models.redirect import LocalModels
    from .pruning.surroundings import Wishes
    from .stats.tracking import Tracking

SWITCHED_OFF = "turned off in the configuration"
STREAMS = "Copy streams"
WEIGHTS = "Weights stay in their files"
CHECKPOINTS = "Checkpoints used before are kept"
UNLOADS = "Nothing is unloaded without a reason"
READ_AHEAD = "The selected model is read ahead"
DIGEST = "Model hashes off the path"
ADETAILER_WEIGHTS = "ADetailer's weights from local files"
UPSCALER_WEIGHTS = "Upscalers' weights from local files"
PRUNING = "Scripts that Flux does not need are not loaded"
REFUSALS = "Requests for scripts that are not loaded are refused"
REQUESTS = "Times of requests"
TRANSLATIONS = "The tab in the language of the WebUI"
ALLOCATOR = "Allocator for large models"


def apply(
    table: PatchTable,
    host: WebUI,
    card: Card,
    config: Config,
    *,
    argv: Sequence[str],
    environ: MutableMapping[str, str],
) -> MemoryPlan:
    """At preload: decide the tier and arm what must be in force before scripts are loaded."""
    decided = plan(card, tier_rules(config))
    _torch(table, card, config, decided, argv, environ)
    _memory(table, host, decided, config)
    at_listing(table, host, decided, config)
    if host.has_memory_manager:
        why = "a page load posts the values of its own start over what is in force"
        table.add("page_loads", "Memory settings survive a page load", why, host.page_changes(table.applied))
    return decided


def at_listing(table: PatchTable, host: WebUI, decided: MemoryPlan, config: Config) -> None:
    """What must be in force when scripts are listed: at preload, and again before "Reload UI" lists them."""
    there = table.applied()
    if "fast_callbacks" not in there:
        item = ("fast_callbacks", "Fast registration of callbacks", "no source code is read for it")
        _switch(table, config.fast_callbacks, item, host.callback_changes())
    if "lazy_apps" not in there:
        item = (
            "lazy_apps",
            "Web apps of inner pages are made when needed",
            "gradio makes two for each of them",
        )
        _switch(table, config.lazy_apps, item, host.page_changes_at_build())
    if "pruning" not in there:
        item = (
            "pruning",
            PRUNING,
            'nothing here uses them; put back, they are loaded at the next "Reload UI"',
        )
        small = decided.tier is not Tier.LARGE and not (host.has_memory_manager and not host.card().is_gpu)
        _switch(
            table,
            config.pruning,
            item,
            host.pruner().changes(lambda: wishes(config), small, table.put_back) if config.pruning else [],
        )


def wishes(config: Config) -> Wishes:
    """The part of the configuration that decides what is left out."""
    from .pruning.catalog import GROUPS
    from .pruning.surroundings import Wishes

    groups = {key: str(getattr(config, key)) for key in GROUPS}
    return Wishes(config.left_out, config.keep, groups)


def apply_with_scripts(
    table: PatchTable,
    host: WebUI,
    decided: MemoryPlan,
    config: Config,
    record: Callable[[Event], None],
    tracking: Tracking,
) -> None:
    """With the scripts, still before any model: the options, which are loaded by now, and all about models."""
    in_force = table.applied()
    for item, (option, value) in host.memory_options(decided).items():
        if item in in_force:
            table.extend(item, [host.option_change(option, value)])
    _refusals(table, host, config)
    weights = ("weights", WEIGHTS, "the GPU is a cache over the files")
    _where_available(
        table, config.weights, weights, lambda: host.weight_changes(direct_share(decided, config))
    )
    _checkpoints(table, host, config, record)
    unloads = ("needless_unloads", UNLOADS, "what did not change since the last image stays")
    _where_available(table, config.needless_unloads, unloads, host.unload_changes)
    digest = ("digest", DIGEST, "once in a file's life, if possible while the WebUI starts")
    _where_available(table, config.digest, digest, host.digest_changes)
    ahead = ("read_ahead", READ_AHEAD, "the first load finds its files in RAM")
    _where_available(table, config.read_ahead, ahead, host.read_ahead_changes)
    _translations(table, host, config)
    _switch(
        table,
        config.statistics,
        ("statistics", "Load times", "every load, move and unload is timed"),
        host.timing_changes(record),
    )
    # Last, so that it is around everything else: what the others do belongs to a request too.
    _requests(table, host, config, tracking)


def apply_when_started(table: PatchTable, host: WebUI) -> None:
    """With the WebUI started: what exists only then joins the items that are in force."""
    if "requests" in table.applied():
        table.extend("requests", host.late_request_changes())


def apply_local_models(
    table: PatchTable, host: WebUI, models: Callable[[], LocalModels], config: Config
) -> None:
    """At preload: ADetailer's script asks for its weights while it is imported, which may be before ours."""
    why = "weights that are on this machine are not asked for on the network"
    adetailer = ("adetailer_weights", ADETAILER_WEIGHTS, why)
    _switch(table, config.local_models, adetailer, host.adetailer_changes(models))
    upscalers = ("upscaler_weights", UPSCALER_WEIGHTS, why)
    _switch(table, config.local_models, upscalers, host.upscaler_changes(models))


def complete_local_models(table: PatchTable, host: WebUI, models: LocalModels) -> None:
    """Before the page is built: what was listed while the redirect was not in force yet."""
    for key, change in host.completing_changes(models).items():
        if key in table.applied():
            table.extend(key, [change])


def tier_rules(config: Config) -> TierRules:
    """The part of the configuration that decides the tier."""
    return TierRules(
        mode=config.tier,
        large_over=config.large_tier_over_gib,
        large_inference_share=config.large_tier_inference_share,
        large_swap_divisor=config.large_tier_swap_divisor,
        large_swap_reserve=config.large_tier_swap_reserve_gib,
        large_low_vram_below=config.large_tier_low_vram_below_gib,
        large_process_share=config.large_tier_process_share,
        standard_inference_share=config.standard_tier_inference_share,
    )


def direct_share(decided: MemoryPlan, config: Config) -> float:
    """The share of RAM that registered weight files may take (weights/direct.py)."""
    if config.direct == "auto":
        return 0.25 if decided.tier is Tier.LARGE and config.pinning else 0.0
    return 0.5 if config.direct == "on" else 0.0


def _memory(table: PatchTable, host: WebUI, decided: MemoryPlan, config: Config) -> None:
    if not host.has_memory_manager:
        table.note("tier", "Memory tier", State.SKIPPED, NOT_AVAILABLE)
    for item in host.memory_changes(decided):
        wanted = config.pinning if item.key == "pinning" else True
        why = f"{decided.tier.value} tier" + (f": {item.why}" if item.why else "")
        _switch(table, wanted, (item.key, item.title, why), item.changes)
    unavailable = host.streams_unavailable()
    if config.streams and unavailable:
        table.note("streams", STREAMS, State.SKIPPED, unavailable)
    else:
        why = "a stream can be created on this device"
        _switch(table, config.streams, ("streams", STREAMS, why), host.stream_changes())


def _refusals(table: PatchTable, host: WebUI, config: Config) -> None:
    if not config.pruning:
        table.note("refusals", REFUSALS, State.SKIPPED, SWITCHED_OFF)
    elif not host.api_is_on():
        table.note("refusals", REFUSALS, State.SKIPPED, "this WebUI serves no API")
    else:
        from .hosts import refusals

        pruner = host.pruner()
        why = "a request that names one gets 422 instead of a different image"
        table.add("refusals", REFUSALS, why, refusals.changes(lambda: pruner.missing))


def _translations(table: PatchTable, host: WebUI, config: Config) -> None:
    from .ui.translations import translated

    why = (
        "Russian and Chinese texts of ours join the localisation that is chosen; read when the page is built"
    )
    item = ("translations", TRANSLATIONS, why)
    _switch(table, config.translations, item, host.translation_changes(translated))


def _torch(
    table: PatchTable,
    card: Card,
    config: Config,
    decided: MemoryPlan,
    argv: Sequence[str],
    environ: MutableMapping[str, str],
) -> None:
    kernels = [_torch_call(torch_setup.enable_attention_kernels)]
    _switch(
        table, config.attention_kernels, ("attention_kernels", "Attention kernels", "all allowed"), kernels
    )
    benchmark = [_torch_call(torch_setup.benchmark_cudnn)]
    _switch(table, config.cudnn_benchmark, ("cudnn_benchmark", "cuDNN benchmark", "on"), benchmark)
    if not card.is_gpu:
        table.note("allocator", ALLOCATOR, State.SKIPPED, "no GPU")
    else:
        setting = Call(partial(torch_setup.set_allocator, sys.modules, environ, argv))
        _switch(table, config.allocator, ("allocator", ALLOCATOR, torch_setup.ALLOCATOR_SETTING), [setting])
    if decided.process_share is not None:
        share = decided.process_share
        limit = _torch_call(partial(torch_setup.limit_process_share, share=share))
        table.add("process_share", "VRAM this process may take", f"at most {share:.0%} of the card", [limit])


def _checkpoints(table: PatchTable, host: WebUI, config: Config, record: Callable[[Event], None]) -> None:
    kept, ram = config.checkpoints_kept, config.checkpoints_ram_gib
    item = ("checkpoints", CHECKPOINTS, f"at most {kept} models with {ram:g} GiB of RAM")
    if config.checkpoints and not config.weights:
        table.note("checkpoints", CHECKPOINTS, State.SKIPPED, "it needs weights to stay in their files")
        return
    tell = record if config.statistics else _tell_nobody
    limits = (kept, int(ram * GIB))
    _where_available(
        table, config.checkpoints, item, lambda: host.checkpoint_changes(limits, tell, table.applied)
    )


def _requests(table: PatchTable, host: WebUI, config: Config, tracking: Tracking) -> None:
    if config.requests and not config.statistics:
        table.note("requests", REQUESTS, State.SKIPPED, "it needs statistics")
        return
    why = "the seconds of every request are told apart"
    if config.load_in_infotext:
        why += ", and image files name what loading took"
    changes = host.request_changes(tracking, config.load_in_infotext) if config.requests else []
    _switch(table, config.requests, ("requests", REQUESTS, why), changes)


def _tell_nobody(_: Event) -> None:
    return None


def _switch(table: PatchTable, wanted: bool, item: tuple[str, str, str], changes: Sequence[Change]) -> None:
    """Arm an item (key, title, why) that the configuration can turn off."""
    key, title, why = item
    if wanted:
        table.add(key, title, why, changes)
    else:
        table.note(key, title, State.SKIPPED, SWITCHED_OFF)


def _where_available(
    table: PatchTable, wanted: bool, item: tuple[str, str, str], changes: Callable[[], Sequence[Change]]
) -> None:
    """As `_switch`, for what only some hosts have changes for."""
    made = changes() if wanted else []
    if wanted and not made:
        table.note(item[0], item[1], State.SKIPPED, NOT_AVAILABLE)
    else:
        _switch(table, wanted, item, made)


def _torch_call(function: Callable[..., Undo]) -> Call:
    """`function` is called with torch, at once or as soon as somebody else has imported it."""
    return Call(lambda: function(sys.modules["torch"]), module="torch")
