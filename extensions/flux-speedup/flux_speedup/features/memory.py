"""Items of memory and PyTorch: what the tier means here."""

from __future__ import annotations

import sys
from collections.abc import Callable, MutableMapping, Sequence
from functools import partial

from ..configuration.config import Config
from ..hosts.common.webui import WebUI
from ..memory import Card, MemoryPlan, TierRules
from ..patching.change import Call, Undo
from ..patching.table import PatchTable, State
from ..ram import HALF, NOTHING, PLENTY, Rule
from . import allocator, torch_setup
from .switch import switch

STREAMS = "Copy streams"
ALLOCATOR = "Allocator for large models"


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


def direct_rule(config: Config) -> Rule:
    """How much RAM weight files may take that are registered for loads (weights/transfer/direct.py)."""
    return {"on": HALF, "auto": PLENTY}.get(config.direct, NOTHING)


def arm_memory(table: PatchTable, host: WebUI, decided: MemoryPlan, config: Config) -> None:
    """The tier's numbers, and copy streams."""
    if not host.has_tiers:
        table.note("tier", "Memory tier", State.SKIPPED, host.why_not("tier"))
    for item in host.memory_changes(decided):
        wanted = config.pinning if item.key == "pinning" else True
        why = f"{decided.tier.value} tier" + (f": {item.why}" if item.why else "")
        switch(table, wanted, (item.key, item.title, why), item.changes)
    unavailable = host.streams_unavailable()
    if config.streams and unavailable:
        table.note("streams", STREAMS, State.SKIPPED, unavailable)
    else:
        why = "a stream can be created on this device"
        switch(table, config.streams, ("streams", STREAMS, why), host.stream_changes())


def arm_torch(
    table: PatchTable,
    card: Card,
    config: Config,
    decided: MemoryPlan,
    argv: Sequence[str],
    environ: MutableMapping[str, str],
) -> None:
    """PyTorch's kernels, allocator and share of the card."""
    kernels = [_torch_call(torch_setup.enable_attention_kernels)]
    switch(
        table, config.attention_kernels, ("attention_kernels", "Attention kernels", "all allowed"), kernels
    )
    benchmark = [_torch_call(torch_setup.benchmark_cudnn)]
    switch(table, config.cudnn_benchmark, ("cudnn_benchmark", "cuDNN benchmark", "on"), benchmark)
    if not card.is_gpu:
        why = "no GPU" if card.is_gpu is False else "it is not known what this WebUI computes on"
        table.note("allocator", ALLOCATOR, State.SKIPPED, why)
    elif card.shares_ram:
        table.note("allocator", ALLOCATOR, State.SKIPPED, "the GPU shares the machine's RAM")
    else:
        setting = Call(partial(allocator.set_allocator, sys.modules, environ, argv))
        switch(table, config.allocator, ("allocator", ALLOCATOR, allocator.SETTING), [setting])
    if decided.process_share is not None:
        share = decided.process_share
        limit = _torch_call(partial(torch_setup.limit_process_share, share=share))
        table.add("process_share", "VRAM this process may take", f"at most {share:.0%} of the card", [limit])


def _torch_call(function: Callable[..., Undo]) -> Call:
    """`function` is called with torch, at once or as soon as somebody else has imported it."""
    return Call(lambda: function(sys.modules["torch"]), module="torch")
