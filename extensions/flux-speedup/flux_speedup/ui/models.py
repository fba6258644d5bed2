"""The built models that are kept, each with a button that drops it. Pure; names go through `safe`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ..hosts.common.inside import Model
from ..stats.report import size
from .cards import badge
from .words import safe

IN_USE = "in use"
LEFT = "WebUI"
WAYS = {
    "file": "from the file",
    "file, made on the card": "from the file, made on the card",
    "RAM": "from RAM",
    LEFT: "moved by the WebUI",
    "on the card": "on the card",
}


def models_card(models: Sequence[Model]) -> str:
    """Built models with their sizes and places; each kept one has a button that drops it."""
    title = '<div class="fsu-title">Models kept</div>'
    if not models:
        return f'<div class="fsu">{title}<div class="fsu-soft">No model is built.</div></div>'
    return f'<div class="fsu">{title}<div class="fsu-rows">{"".join(map(_model, models))}</div></div>'


def _model(model: Model) -> str:
    where = (
        badge(IN_USE, "applied")
        if model.where == IN_USE
        else f'<span class="fsu-badge">{safe(model.where)}</span>'
    )
    places = " &middot; ".join(
        f"{size(count)} {place}"
        for count, place in (
            (model.device_bytes, "on the card"),
            (model.file_bytes, "in files"),
            (model.ram_bytes, "in RAM"),
        )
        if count
    )
    press = ""
    if model.where != IN_USE:
        do = f"drop:{token(model)}"
        press = (
            f'<button type="button" class="fsu-press" data-fsu-do="{do}" data-fsu-key="{do}">Drop model'
            f'<span class="fsu-unseen"> {safe(model.name)}</span></button>'
        )
    return (
        f'<div class="fsu-row fsu-model"><div><span class="fsu-item">{safe(model.name)}</span> {where}'
        f'<div class="fsu-soft fsu-small">{places or "no memory of its own"}</div>{forms(model)}</div>'
        f"{press}</div>"
    )


def forms(model: Model) -> str:
    """A line for each component: its forms, and which way they go to the card; why, where that is not ours."""
    lines: dict[str, list[str]] = {}
    for use in model.forms:
        told = f"{safe(use.form)} {size(use.bytes)} {WAYS.get(use.way, safe(use.way))}"
        if use.why:
            told += f" ({safe(use.why)})"
        css = "fsu-slow" if use.way == LEFT else "fsu-soft"
        lines.setdefault(use.component, []).append(f'<span class="{css}">{told}</span>')
    return "".join(
        f'<div class="fsu-small fsu-form">{safe(component)}: {", ".join(told)}</div>'
        for component, told in lines.items()
    )


def token(model: Model) -> str:
    """A name for a model's key that can stand in any attribute, whatever the key is made of."""
    return hashlib.sha256(model.key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
