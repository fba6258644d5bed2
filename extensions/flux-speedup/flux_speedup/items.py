"""Which items the patch table gets: the configuration and the tier's plan turned into changes of the host."""

from __future__ import annotations

import sys
from collections.abc import Callable, MutableMapping, Sequence
from functools import partial

from . import torch_setup
from .changes import Call
from .config import Config
from .hosts.webui import NOT_AVAILABLE, WebUI
from .memory import Card, MemoryPlan, TierRules, plan
from .patches import PatchTable, State
from .stats.events import Event

SWITCHED_OFF = "turned off in the configuration"


def apply(
    table: PatchTable,
    host: WebUI,
    card: Card,
    config: Config,
    *,
    record: Callable[[Event], None],
    argv: Sequence[str],
    environ: MutableMapping[str, str],
) -> MemoryPlan:
    """Decide the tier and arm every item that the configuration asks for."""
    decided = plan(card, tier_rules(config))
    _torch(table, card, config, decided, argv, environ)
    _memory(table, host, decided, config)
    if config.statistics:
        why = "every load, move and unload is timed"
        table.add("statistics", "Load times", why, host.timing_changes(record))
    else:
        table.note("statistics", "Load times", State.SKIPPED, SWITCHED_OFF)
    if host.has_memory_manager:
        why = "a page load posts the values of its own start over what is in force"
        table.add("page_loads", "Memory settings survive a page load", why, host.page_changes(table.applied))
    return decided


def apply_options(table: PatchTable, host: WebUI, decided: MemoryPlan) -> None:
    """Set the WebUI's options to what is in force, now that they are loaded."""
    in_force = table.applied()
    for item, (option, value) in host.memory_options(decided).items():
        if item in in_force:
            table.extend(item, [host.option_change(option, value)])


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


def _memory(table: PatchTable, host: WebUI, decided: MemoryPlan, config: Config) -> None:
    if not host.has_memory_manager:
        table.note("tier", "Memory tier", State.SKIPPED, NOT_AVAILABLE)
    for key, title, changes in host.memory_changes(decided):
        if key == "pinning" and not config.pinning:
            table.note(key, title, State.SKIPPED, SWITCHED_OFF)
        else:
            table.add(key, title, f"{decided.tier.value} tier", changes)
    title = "Copy streams"
    unavailable = host.streams_unavailable()
    if not config.streams:
        table.note("streams", title, State.SKIPPED, SWITCHED_OFF)
    elif unavailable:
        table.note("streams", title, State.SKIPPED, unavailable)
    else:
        table.add("streams", title, "a stream can be created on this device", host.stream_changes())


def _torch(
    table: PatchTable,
    card: Card,
    config: Config,
    decided: MemoryPlan,
    argv: Sequence[str],
    environ: MutableMapping[str, str],
) -> None:
    switches = [
        ("attention_kernels", "Attention kernels", config.attention_kernels, torch_setup.enable_attention_kernels),
        ("cudnn_benchmark", "cuDNN benchmark", config.cudnn_benchmark, torch_setup.benchmark_cudnn),
    ]
    for key, title, wanted, function in switches:
        if wanted:
            table.add(key, title, "on", [Call(partial(_with_torch, function), module="torch")])
        else:
            table.note(key, title, State.SKIPPED, SWITCHED_OFF)
    title = "Allocator for large models"
    if not card.is_gpu:
        table.note("allocator", title, State.SKIPPED, "no GPU")
    elif config.allocator:
        call = partial(torch_setup.set_allocator, sys.modules, environ, argv)
        table.add("allocator", title, torch_setup.ALLOCATOR_SETTING, [Call(call)])
    else:
        table.note("allocator", title, State.SKIPPED, SWITCHED_OFF)
    if decided.process_share is not None:
        share = decided.process_share
        limit = partial(_with_torch, partial(torch_setup.limit_process_share, share=share))
        why = f"at most {share:.0%} of the card"
        table.add("process_share", "VRAM this process may take", why, [Call(limit, module="torch")])


def _with_torch(function: Callable[..., Callable[[], None]]) -> Callable[[], None]:
    return function(sys.modules["torch"])
