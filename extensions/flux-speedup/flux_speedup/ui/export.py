"""The statistics as files for other programs: everything as JSON, events as CSV."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import TYPE_CHECKING

from ..facts.plain import plain
from ..stats.events import Event, Query
from ..stats.report import printable

if TYPE_CHECKING:
    from ..facts.seen import Seen

# As many as the database keeps at most.
EVENTS = 10_000
REQUESTS = 1_000
COLUMNS = ("at", "kind", "what", "bytes", "seconds", "gb_per_s", "source", "target", "detail")


def as_json(view: Seen, now: float) -> str:
    """Status, figures, requests and events as a JSON document; times in seconds since the epoch and as ISO 8601."""
    document = {
        "exported": iso(now),
        "status": view.status(),
        "savings": view.savings(),
        "totals": view.totals(),
        "machine": view.machine(),
        "first_image": view.first_image(),
        "starts": view.starts(),
        "requests": view.requests(REQUESTS),
        "events": view.events(Query(limit=EVENTS)),
    }
    return json.dumps(plain(document), indent=1)


def as_csv(view: Seen) -> str:
    """Every event on one line, the newest first, in the order of COLUMNS; GB = 10^9 bytes."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for event in view.events(Query(limit=EVENTS)):
        writer.writerow(row(event))
    return text.getvalue()


def row(event: Event) -> list[str]:
    """One event as cells."""
    rate = "" if event.rate is None else f"{event.rate:.3f}"
    words = [event.kind, event.what, event.source, event.target, event.detail]
    kind, what, source, target, detail = map(cell, words)
    return [iso(event.at), kind, what, str(event.bytes), f"{event.seconds:.6f}", rate, source, target, detail]


def cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


def iso(at: float) -> str:
    """A time as ISO 8601 in UTC; "" for what is no time."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    except (ValueError, OverflowError, OSError):
        return ""
