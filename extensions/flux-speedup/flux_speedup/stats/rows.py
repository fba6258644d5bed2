"""Events and requests as rows of the database, and the statements that write and read them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .events import Event
from .requests import PARTS, Pass, Request, Steps

INT64_MAX = 2**63 - 1

# Text goes in as bytes: SQLite's own binding refuses lone surrogates, which file names can carry.
INSERT = """
INSERT INTO events (at, kind, what, bytes, seconds, source, target, detail) VALUES
(?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))
"""
TRIM = "DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?)"
SELECT = """
SELECT at, kind, what, bytes, seconds, source, target, detail FROM events
WHERE (:since IS NULL OR at >= :since) AND (:kind IS NULL OR kind = CAST(:kind AS TEXT))
AND (:model IS NULL OR instr(lower(what), lower(CAST(:model AS TEXT))) > 0)
ORDER BY at DESC, id DESC LIMIT :limit OFFSET :offset
"""

Row = tuple[float, bytes, bytes, int, float, bytes, bytes, bytes]
Stored = tuple["float | None", str, str, int, "float | None", str, str, str]

INSERT_REQUEST = """
INSERT INTO requests (began, number, kind, via, bytes, images, failed, body) VALUES
(?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, CAST(? AS TEXT))
"""
TRIM_REQUESTS = "DELETE FROM requests WHERE id <= (SELECT id FROM requests ORDER BY id DESC LIMIT 1 OFFSET ?)"
SELECT_REQUESTS = """
SELECT began, number, kind, via, bytes, images, failed, body FROM requests
ORDER BY began DESC, id DESC LIMIT ?
"""

RequestRow = tuple[float, int, bytes, bytes, int, int, int, bytes]
StoredRequest = tuple["float | None", int, str, str, int, int, int, str]


def raw(text: str) -> bytes:
    """Text as it is stored."""
    return str(text).encode("utf-8", "surrogatepass")


def row_of(event: Event) -> Row:
    """What INSERT takes."""
    # int() and float(): SQLite refuses the numbers of numpy.
    return (
        float(event.at),
        raw(event.kind),
        raw(event.what),
        max(-INT64_MAX, min(int(event.bytes), INT64_MAX)),
        float(event.seconds),
        raw(event.source),
        raw(event.target),
        raw(event.detail),
    )


def event_of(row: Stored) -> Event:
    """What SELECT found."""
    at, kind, what, size, seconds, source, target, detail = row
    return Event(kind, what, size, _number(seconds), source, target, _number(at), detail)


def _number(value: float | None) -> float:
    # SQLite keeps a NaN as NULL.
    return float("nan") if value is None else value


def request_row(request: Request) -> RequestRow:
    """What INSERT_REQUEST takes."""
    body = {
        "parts": dict(request.parts),
        "passes": [
            {"name": each.name, "parts": dict(each.parts), "steps": each.steps and asdict(each.steps)}
            for each in request.passes
        ],
    }
    return (
        float(request.began),
        int(request.number),
        raw(request.kind),
        raw(request.via),
        max(0, min(int(request.bytes), INT64_MAX)),
        int(request.images),
        int(request.failed),
        raw(json.dumps(body)),
    )


def request_of(row: StoredRequest) -> Request:
    """What SELECT_REQUESTS found. A body that nobody of ours wrote counts as no parts."""
    began, number, kind, via, size, images, failed, body = row
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = {}
    parts = _parts(found)
    listed = found.get("passes") if isinstance(found, dict) else None
    passes = tuple(_pass(each) for each in listed) if isinstance(listed, list) else ()
    seconds = sum(parts.values())
    began = _number(began)
    return Request(
        number, kind, via, began, seconds, parts, passes, size, images, running=False, failed=bool(failed)
    )


def _pass(found: Any) -> Pass:
    parts = _parts(found)
    known = found if isinstance(found, dict) else {}
    return Pass(str(known.get("name") or ""), sum(parts.values()), parts, _steps(known.get("steps")))


def _steps(found: Any) -> Steps | None:
    try:
        waited = None if found["waited"] is None else float(found["waited"])
        steps = Steps(int(found["count"]), float(found["seconds"]), waited, int(found["bytes"]))
    except (TypeError, KeyError, ValueError, OverflowError):
        return None
    return steps if math.isfinite(steps.seconds) and math.isfinite(waited or 0.0) else None


def _parts(found: Any) -> Mapping[str, float]:
    kept = found.get("parts") if isinstance(found, dict) else None
    if not isinstance(kept, dict):
        return {}
    numbers = {part: kept[part] for part in PARTS if isinstance(kept.get(part), (int, float))}
    return {part: float(number) for part, number in numbers.items() if math.isfinite(number)}
