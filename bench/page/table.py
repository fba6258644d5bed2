"""A table of figures, as Markdown and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

Cell = float | str | None
COLORS = ("#3b82f6", "#94a3b8", "#f59e0b", "#10b981", "#a855f7", "#ef4444", "#14b8a6")
LEFT, WIDTH, BAR, GAP, TOP = 190, 720, 14, 10, 52


@dataclass(frozen=True)
class Table:
    """`rows` are a label and a cell for each of `columns`; of those the first `drawn` are bars in the picture."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    drawn: int = 0
    stacked: bool = False


def figure(cell: Cell) -> str:
    """Three digits that count, and nothing that looks more exact."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    digits = max(0, 3 - len(str(int(abs(cell))))) if abs(cell) >= 1 else 3 if abs(cell) >= 0.1 else 4
    return f"{cell:.{digits}f}" if cell else "0"


def markdown(table: Table) -> str:
    lines = ["| " + " | ".join(("", *table.columns)) + " |", "|" + "---|" * (1 + len(table.columns))]
    lines += ["| " + " | ".join((label, *map(figure, cells))) + " |" for label, cells in table.rows]
    return "\n".join(lines)


def picture(table: Table) -> str:
    """Bars from left to right, one below the other or, stacked, one after the other."""
    names = table.columns[: table.drawn]
    numbers = [
        [c if isinstance(c, (int, float)) else 0.0 for c in cells[: table.drawn]] for _, cells in table.rows
    ]
    longest = max((sum(each) if table.stacked else max(each) for each in numbers), default=0) or 1
    room = WIDTH - LEFT - 70
    body, y = [_text(10, 20, table.title, "title")], TOP
    x = LEFT
    for number, name in enumerate(names):
        body += [_rect(x, 30, 10, number), _text(x + 14, 39, name)]
        x += 26 + 7 * len(name)
    for (label, cells), values in zip(table.rows, numbers, strict=True):
        height = BAR if table.stacked else BAR * len(names)
        body.append(_text(LEFT - 8, y + height / 2 + 4, label, anchor="end"))
        x = LEFT
        for number, value in enumerate(values):
            width = value / longest * room
            body.append(_rect(x, y, width, number))
            x = x + width if table.stacked else LEFT
            if not table.stacked:
                body.append(_text(LEFT + width + 4, y + 11, figure(cells[number])))
                y += BAR
        if table.stacked:
            body.append(_text(x + 4, y + 11, figure(sum(values))))
            y += BAR
        y += GAP
    style = "text{font:12px sans-serif;fill:#64748b}.title{font-weight:bold;font-size:14px}"
    box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
    return f'<svg {box} role="img" aria-label="{escape(table.title)}"><style>{style}</style>{"".join(body)}</svg>\n'


def _rect(x: float, y: float, width: float, number: int) -> str:
    color = COLORS[number % len(COLORS)]
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR - 3}" rx="2" fill="{color}"/>'


def _text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'
