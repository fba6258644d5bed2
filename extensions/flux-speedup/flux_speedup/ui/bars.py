"""One row of a list of bars: a name, a bar, a figure."""

from __future__ import annotations


def row(name: str, share: float, figure: str, css: str = "", more: str = "") -> str:
    """`share` of the bar's width, 0 to 1; `name` and `figure` are HTML; `css`, `more`: classes of bar and row."""
    return (
        f'<div class="fsu-stage {more}"><span>{name}</span><span class="fsu-track">'
        f'<div class="fsu-fill {css}" style="width:{100 * share:.1f}%"></div></span>'
        f'<span class="fsu-number">{figure}</span></div>'
    )
