"""Which items the patch table gets: the configuration and the tier's plan turned into changes of the host."""

from __future__ import annotations

import sys
from collections.abc import Callable, MutableMapping, Sequence
from functools import partial

from . import torch_setup
from .changes import Call, Change, Undo
from .config import Config
from .hosts.webui import NOT_AVAILABLE, WebUI
from .memory import Card, MemoryPlan, TierRules, plan
from .patches import PatchTable, State
from .stats.events import Event

SWITCHED_OFF = "turned off in the configuration"
STREAMS = "Copy streams"
WEIGHTS = "Weights stay in their files"
ALLOCATOR = "Allocator for large models"


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
    _switch(
        table,
        config.fast_callbacks,
        ("fast_callbacks", "Fast registration of callbacks", "no source code is read for it"),
        host.callback_changes(),
    )
    weights = host.weight_changes() if config.weights else []
    if config.weights and not weights:
        table.note("weights", WEIGHTS, State.SKIPPED, NOT_AVAILABLE)
    else:
        _switch(table, config.weights, ("weights", WEIGHTS, "the GPU is a cache over the files"), weights)
    _switch(
        table,
        config.statistics,
        ("statistics", "Load times", "every load, move and unload is timed"),
        host.timing_changes(record),
    )
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
        wanted = config.pinning if key == "pinning" else True
        _switch(table, wanted, (key, title, f"{decided.tier.value} tier"), changes)
    unavailable = host.streams_unavailable()
    if config.streams and unavailable:
        table.note("streams", STREAMS, State.SKIPPED, unavailable)
    else:
        why = "a stream can be created on this device"
        _switch(table, config.streams, ("streams", STREAMS, why), host.stream_changes())


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


def _switch(table: PatchTable, wanted: bool, item: tuple[str, str, str], changes: Sequence[Change]) -> None:
    """Arm an item (key, title, why) that the configuration can turn off."""
    key, title, why = item
    if wanted:
        table.add(key, title, why, changes)
    else:
        table.note(key, title, State.SKIPPED, SWITCHED_OFF)


def _torch_call(function: Callable[..., Undo]) -> Call:
    """`function` is called with torch, at once or as soon as somebody else has imported it."""
    return Call(lambda: function(sys.modules["torch"]), module="torch")
