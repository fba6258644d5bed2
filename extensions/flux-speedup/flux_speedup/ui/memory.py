"""Memory right now: VRAM by model, RAM by kind. Pure; names go through `safe`."""

from __future__ import annotations

from collections.abc import Sequence

from ..facts.view import MemoryUse, StreamedUse
from ..stats.report import size
from . import svg
from .words import bar, safe, share

# Colours of models, in turn.
COLOURS = ("sampling", "text", "adetailer", "vae", "move", "load")
BAR_PX = 26


def memory_card(memory: MemoryUse) -> str:
    """VRAM as one stacked bar, RAM as a bar for each kind."""
    return f'<div class="fsu"><div class="fsu-title">Memory</div>{vram(memory)}{ram(memory)}</div>'


def vram(memory: MemoryUse) -> str:
    """The card's memory: each model, what else is in use, what is free."""
    named = sum(count for _, count in memory.vram_by_model)
    total = memory.vram_total
    if not total:
        return _only_models(memory.vram_by_model, named)
    used = memory.vram_used if memory.vram_used is not None else named
    parts = [
        (name, count, f"fsu-p-{COLOURS[i % len(COLOURS)]}")
        for i, (name, count) in enumerate(memory.vram_by_model)
        if count > 0
    ]
    ring = sum(each.held for each in memory.streamed)
    if ring:
        parts.append(("ring that weights stream through", ring, "fsu-p-warm"))
    if used > named + ring:
        parts.append(("everything else on the card", used - named - ring, "fsu-p-other"))
    free = max(0, total - max(used, named + ring))
    kept = min(memory.inference or 0, free)
    if kept:
        parts.append(("kept free for computing", kept, "fsu-p-kept"))
    parts.append(("not in use", free - kept, "fsu-p-free"))
    label = "VRAM: " + ", ".join(f"{name} {size(count)}" for name, count, _ in parts)
    keys = "".join(_key(name, count, total, css) for name, count, css in parts)
    picture = svg.picture(label, BAR_PX, _stack(parts, total))
    return (
        f'<div class="fsu-item">VRAM <span class="fsu-soft">{size(used)} of {size(total)} in use</span></div>'
        f'{picture}<div class="fsu-legend">{keys}</div>{streamed(memory.streamed)}'
    )


def streamed(models: Sequence[StreamedUse]) -> str:
    """What of a model stays and what comes at each pass, a line for each."""
    return "".join(
        f'<div class="fsu-gap"><span class="fsu-item">{safe(each.component)}</span> <span class="fsu-soft">'
        f"{size(each.resident)} stay on the card, {size(each.coming)} stream at each pass through a ring of "
        f'{size(each.ring)}</span> <span class="fsu-soft fsu-small">{safe(each.source)}</span></div>'
        for each in models
    )


def _only_models(models: Sequence[tuple[str, int]], named: int) -> str:
    if not named:
        return '<div class="fsu-soft">VRAM: there is no card here whose memory could be read.</div>'
    rows = "".join(bar(safe(name), share(count, named), size(count)) for name, count in models)
    about = f"{size(named)} of models; the whole of this device cannot be read"
    return f'<div class="fsu-item">VRAM <span class="fsu-soft">{about}</span></div>{rows}'


def _stack(parts: Sequence[tuple[str, int, str]], total: int) -> str:
    drawn, x = svg.rect(0, 0.5, 100, BAR_PX - 1, "fsu-bed"), 0.0
    for name, count, css in parts:
        width = min(100 - x, 100 * share(count, total))
        if css != "fsu-p-free":
            drawn += svg.rect(x, 0, width, BAR_PX, f"fsu-part {css}", f"{name}: {size(count)}")
        x += width
    return drawn


def _key(name: str, count: int, total: int, css: str) -> str:
    return (
        f'<div class="fsu-key"><span class="fsu-swatch {css}"></span><span>{safe(name)}</span>'
        f'<span class="fsu-number">{size(count)}</span>'
        f'<span class="fsu-number fsu-soft">{share(count, total):.0%}</span></div>'
    )


def ram(memory: MemoryUse) -> str:
    """RAM by kind on one scale: kinds overlap (pinned memory is some process's own), so they are not stacked."""
    kinds = (
        ("weight files in the page cache", memory.page_cache),
        ("this process's own", memory.anonymous),
        ("pinned by us", memory.pinned),
        ("available", memory.ram_available),
    )
    known = [(name, count) for name, count in kinds if count is not None]
    if not known:
        return '<div class="fsu-soft fsu-gap">RAM: not known on this system.</div>'
    scale = memory.ram_total or max(count for _, count in known)
    rows = "".join(bar(name, share(count, scale), size(count)) for name, count in known)
    of = f'<span class="fsu-soft">{size(memory.ram_total)} in all</span>' if memory.ram_total else ""
    return f'<div class="fsu-item fsu-gap">RAM {of}</div>{rows}'
