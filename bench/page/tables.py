"""What a run's JSON is told as."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from .table import Cell, Table

Row = dict[str, Any]
Content = dict[str, Any]
# Requests that are no picture, in tables of their own.
APART = ("start", "a step", "the turn")
CPU = "CPU until then"
"""The figure of a start that comes first."""


def tables(content: Content) -> list[Table]:
    known = {"webui": webui, "loads": loads, "start": start}
    return known.get(content["bench"], plain)(content)


def webui(content: Content) -> list[Table]:
    """What a step costs by card; the seconds of every request, a table a card; where ours went."""
    rows: list[Row] = content["rows"]
    variants = _seen(row["variant"] for row in rows)
    cards = _seen(row["card"] for row in rows)
    steps = tuple(
        (_card(card), tuple(_middle(rows, "seconds", card, v, "a step") for v in variants)) for card in cards
    )
    found = [Table("Seconds a step", variants, steps, drawn=len(variants))] if any(map(_told, steps)) else []
    for card in cards:
        requests = [
            name for name in _seen(r["request"] for r in rows if r["card"] == card) if name not in APART
        ]
        columns = (*variants, *(f"{v}: of it moving" for v in variants))
        cells = tuple(
            (
                name,
                tuple(_middle(rows, key, card, v, name) for key in ("seconds", "moving") for v in variants),
            )
            for name in requests
        )
        found.append(Table(f"Seconds a request, {_card(card)}", columns, cells, drawn=len(variants)))
        found += _parts(rows, card) + _seed(rows, card)
    return found


def _seed(rows: list[Row], card: Any) -> list[Table]:
    """Where the seconds of hires fix with three passes of ADetailer went, by the WebUI's own words."""
    told = [r for r in rows if r["card"] == card and r["request"].startswith("seed") and "seconds" in r]
    asked = _seen(row["request"] for row in told)
    cells = tuple(
        (
            f"{row['request'].partition(', ')[2]}, {row['variant']}",
            (row["building"], row["moving"], row["seconds"] - row["building"] - row["moving"]),
        )
        for row in sorted(told, key=lambda each: asked.index(each["request"]))
    )
    columns = ("building models", "moving models", "computing and the rest")
    title = f"Hires fix and ADetailer three times, {_card(card)}"
    return [Table(title, columns, cells, drawn=3, stacked=True)] if cells else []


def _parts(rows: list[Row], card: Any) -> list[Table]:
    """Where the seconds of the first variant with the extension went."""
    told = [row for row in rows if row["card"] == card and row.get("parts")]
    told = [row for row in told if (row["variant"], row["round"]) == (told[0]["variant"], told[0]["round"])]
    if not told:
        return []
    names = _seen(name for row in told for name in row["parts"])
    cells = tuple((row["request"], tuple(row["parts"].get(name) for name in names)) for row in told)
    title = f"Where the seconds went, {told[0]['variant']}, {_card(card)}"
    return [Table(title, names, cells, drawn=len(names), stacked=True)]


def loads(content: Content) -> list[Table]:
    """Each load's seconds, as a multiple of the plain copy where it moved as many bytes."""
    rows = content["rows"]
    floor = rows[0]
    cells = tuple(
        (
            " ".join(filter(None, (row["name"], row.get("version")))),
            (
                row.get("best", "" if "gb_per_s" in row else "failed"),
                row.get("median"),
                row.get("gb_per_s"),
                row["best"] / floor["best"] if row.get("bytes") == floor["bytes"] else None,
            ),
        )
        for row in rows
    )
    return [Table("Seconds of a load", ("best", "median", "GB/s", "of the plain copy"), cells, drawn=1)]


def start(content: Content) -> list[Table]:
    """CPU seconds of every WebUI, which a busy machine changes least; and all figures."""
    rows = [row for row in content["rows"] if "figure" in row]
    variants = _seen(row["variant"] for row in rows)
    seconds, cells = [], []
    for webui, mode, name in _seen((row["webui"], row["mode"], row["figure"]) for row in rows):
        these = [row for row in rows if (row["webui"], row["mode"], row["figure"]) == (webui, mode, name)]
        by_variant = {row["variant"]: row for row in these}
        each = [by_variant.get(variant, {}) for variant in variants]
        medians = tuple(row.get("median") for row in each)
        ranges = tuple(f"{row['lowest']:.2f} to {row['highest']:.2f}" if row else None for row in each)
        cells.append((f"{webui}, {mode}: {name}", (*medians, *ranges, each[-1].get("of_before"))))
        if name == CPU:
            seconds.append((f"{webui}, {mode}", medians))
    columns = (*variants, *(f"{v}: range" for v in variants), "of before")
    return [
        Table("CPU seconds of a start", variants, tuple(seconds), drawn=len(variants)),
        Table("", columns, tuple(cells)),
    ]


def plain(content: Content) -> list[Table]:
    """Rows that have a name, as they are; no picture, as their units differ."""
    rows = content["rows"]
    columns = _seen(key for row in rows for key in row if key != "name")
    return [Table("", columns, tuple((row["name"], tuple(row.get(key) for key in columns)) for row in rows))]


def _middle(rows: list[Row], key: str, card: Any, variant: str, request: str) -> Cell:
    """The median over the rounds; what went wrong, in a word; None where it was not asked."""
    found = [r for r in rows if (r["card"], r["variant"], r["request"]) == (card, variant, request)]
    seconds = [row[key] for row in found if key in row]
    errors = [row["error"] for row in found if "error" in row] if key == "seconds" else []
    if seconds or not errors:
        return statistics.median(seconds) if seconds else None
    return "not in time" if "timed out" in errors[0] else "failed"


def _told(row: tuple[str, tuple[Cell, ...]]) -> bool:
    return any(cell is not None for cell in row[1])


def _card(card: Any) -> str:
    return "the card as it is" if card == "all" else f"{card:g} GiB"


def _seen(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))
