"""Packed files that are made: how far, and what each waits for. Pure; names and reasons go through `safe`."""

from __future__ import annotations

from ..stats.report import size
from ..weights.packed.progress import FileProgress, PackedNow
from .words import bar, safe, share

STATES = {
    "packed": "It is packed.",
    "packing": "It is being packed.",
    "comparing": "It is compared with its packed file once more: its name or mode is another one.",
    "stopped": "Packing is stopped; it goes on where it is.",
    "waiting": "It waits:",
    "not packed": "It is not packed:",
}


def packed_card(now: PackedNow) -> str:
    """What packed weights bring or would bring, a bar for each file, and the button that stops them or goes on."""
    if not now.says and not now.on:
        return ""
    body = f'<div class="fsu-soft">{safe(now.says)}</div>' if now.says else ""
    button = ""
    if now.on:
        room = f"Packed files take {size(now.taken)} of the {size(now.limit)} that they may."
        body += "".join(map(_file, now.files)) + f'<div class="fsu-soft fsu-small fsu-gap">{room}</div>'
        do, label = ("on", "Go on packing") if now.stopped else ("stop", "Stop packing")
        button = (
            f'<button type="button" class="fsu-press" data-fsu-do="packing:{do}" '
            f'data-fsu-key="packing">{label}</button>'
        )
    title = f'<div class="fsu-title">Packed weights{button}</div>'
    return f'<div class="fsu fsu-card">{title}{body}</div>'


def _file(file: FileProgress) -> str:
    part = share(file.done, file.bytes)
    why = f" {safe(file.why)}" if file.why else ""
    return (
        f"{bar(safe(file.name), part, f'{100 * part:.0f} %')}"
        f'<div class="fsu-soft fsu-small">{size(file.done)} of {size(file.bytes)} &middot; '
        f'<span class="fsu-soft">{STATES[file.state]}</span>{why}</div>'
    )
