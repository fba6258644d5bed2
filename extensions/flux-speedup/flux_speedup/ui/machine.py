"""What this machine can do, and how far a measurement is. Pure; foreign text goes through `safe`."""

from __future__ import annotations

from ..stats.events import Totals
from ..stats.machine import Machine, Measuring
from .cards import result
from .words import bar, gb_s, safe, share, when

RUNNING = "running"


def machine_card(machine: Machine | None, totals: Totals, now: float) -> str:
    """Speeds as bars on one scale: the machine's limits, the WebUI's own way, what loads reached."""
    title = "This machine"
    if machine is not None:
        measured = f"{safe(machine.device)} &middot; measured {when(machine.at, now)}"
        title += f'<span class="fsu-soft">{measured}</span>'
    rows = speeds(machine, totals)
    known = [value for _, value, _ in rows if value is not None]
    if not known:
        body = (
            '<div class="fsu-soft">Not measured yet. A measurement reads a weight file and copies to the card, to '
            "learn what disk and bus allow and how fast the WebUI's own way is.</div>"
        )
    else:
        body = "".join(_row(name, value, max(known), css) for name, value, css in rows)
    return f'<div class="fsu"><div class="fsu-title">{title}</div>{body}</div>'


def speeds(machine: Machine | None, totals: Totals) -> list[tuple[str, float | None, str]]:
    """(name, GB/s, class of its bar); rows of a machine that was not measured are left out."""
    ours = totals.kind("move").rate
    rows: list[tuple[str, float | None, str]] = []
    if machine is not None:
        rows += [
            ("bus: RAM to card", machine.bus, "fsu-before"),
            ("page cache", machine.page_cache, "fsu-before"),
            ("disk, cold", machine.disk, "fsu-before"),
            ("WebUI's own load", machine.host_load, "fsu-p-warm"),
            ("WebUI's own unload", machine.host_unload, "fsu-p-warm"),
        ]
    if ours is not None:
        rows.append(("moves since this start, mean", ours, ""))
    return rows


def _row(name: str, value: float | None, most: float, css: str) -> str:
    figure = gb_s(value)
    if value is None:
        figure = f'<span class="fsu-soft">{figure}</span>'
    return bar(name, share(value or 0.0, most), figure, css, "fsu-speed")


def progress(measuring: Measuring) -> str:
    """How far a measurement is, or how it ended; nothing where none was asked for."""
    if measuring.state == RUNNING:
        percent = round(100 * share(measuring.share, 1.0))
        doing = safe(measuring.doing) if measuring.doing else "<span>measuring</span>"
        return (
            f'<div class="fsu"><div class="fsu-soft">{doing}, {percent} %</div>'
            f'<div class="fsu-track" role="progressbar" aria-label="measuring" aria-valuenow="{percent}" '
            'aria-valuemin="0" aria-valuemax="100">'
            f'<div class="fsu-fill" style="width:{percent}%"></div></div></div>'
        )
    if measuring.state == "done":
        return result("This machine is measured.")
    if measuring.state == "cancelled":
        return result("The measurement was cancelled.")
    if measuring.state == "failed":
        return result(f"The measurement failed: {safe(measuring.why or 'no reason given')}.", good=False)
    return ""
