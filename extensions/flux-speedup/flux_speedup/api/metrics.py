"""The figures in Prometheus' text format (version 0.0.4). Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ..facts.plain import text
from ..facts.view import MemoryUse, Status
from ..patching.table import State
from ..stats.events import GB, Totals
from ..stats.machine import Machine, Savings
from ..stats.requests import Request

CONTENT_TYPE = "text/plain; version=0.0.4"
Sample = tuple[Mapping[str, str], float | None]


def metrics(
    status: Status,
    totals: Totals,
    newest: Request | None,
    savings: Savings,
    memory: MemoryUse,
    machine: Machine | None,
) -> str:
    """Counters count from the start of the process."""
    by_kind = totals.by_kind.items()
    states = [outcome.state for outcome in status.outcomes]
    info = {"version": status.version, "host": status.host, "tier": status.tier}
    parts = newest.parts if newest is not None else {}
    ram = {
        "page_cache": memory.page_cache,
        "anonymous": memory.anonymous,
        "pinned": memory.pinned,
        "registered": memory.registered,
        "available": memory.ram_available,
        "total": memory.ram_total,
    }
    measured = machine or Machine(0.0, "")
    limits = {"disk": measured.disk, "page_cache": measured.page_cache, "bus": measured.bus}
    families: list[tuple[str, str, str, Sequence[Sample]]] = [
        ("info", "gauge", "What runs here.", [(info, 1)]),
        ("simulated", "gauge", "1 where the device is a stand-in.", [({}, float(status.simulated))]),
        ("changes", "gauge", "Changes by state.", [({"state": s.value}, states.count(s)) for s in State]),
        ("events_total", "counter", "Events by kind.", [({"kind": k}, t.count) for k, t in by_kind]),
        ("bytes_total", "counter", "Bytes by kind of event.", [({"kind": k}, t.bytes) for k, t in by_kind]),
        ("seconds_total", "counter", "Seconds by kind.", [({"kind": k}, t.seconds) for k, t in by_kind]),
        ("saved_seconds", "gauge", "Seconds saved since start; below 0: lost.", [({}, savings.since_start)]),
        ("saved_estimated", "gauge", "1 without a measured baseline.", [({}, float(savings.estimated))]),
        (
            "requests_total",
            "counter",
            "Requests by where they found their checkpoint.",
            [({"checkpoint": where}, count) for where, count in totals.found.items()],
        ),
        (
            "measured_bytes_per_second",
            "gauge",
            "What this machine can do, as measured.",
            [({"way": way}, rate and rate * GB) for way, rate in limits.items()],
        ),
        (
            "last_request_seconds",
            "gauge",
            "Seconds of the newest request by part.",
            [({"part": part}, seconds) for part, seconds in parts.items()],
        ),
        ("last_request_step_seconds", "gauge", "Seconds an iteration by pass.", _of_steps(newest, "seconds")),
        (
            "last_request_step_waited_seconds",
            "gauge",
            "Seconds of an iteration that waited for weights.",
            _of_steps(newest, "waited"),
        ),
        ("last_request_step_bytes", "gauge", "Bytes of weights an iteration.", _of_steps(newest, "bytes")),
        ("vram_bytes", "gauge", "VRAM of the card.", _used_and_total(memory)),
        (
            "vram_model_bytes",
            "gauge",
            "VRAM by component.",
            [({"component": name}, size) for name, size in memory.vram_by_model],
        ),
        ("streamed_bytes", "gauge", "Bytes of streamed models.", _of_streamed(memory)),
        ("ram_bytes", "gauge", "RAM by kind.", [({"kind": kind}, size) for kind, size in ram.items()]),
    ]
    return "".join(_family(*family) for family in families)


def _of_streamed(memory: MemoryUse) -> list[Sample]:
    kinds = ("resident", "coming", "ring")
    streamed = memory.streamed
    return [
        ({"component": one.component, "kind": kind}, getattr(one, kind)) for one in streamed for kind in kinds
    ]


def _of_steps(newest: Request | None, what: str) -> list[Sample]:
    passes = newest.passes if newest is not None else ()
    return [({"pass": one.name}, getattr(one.steps, what)) for one in passes if one.steps is not None]


def _used_and_total(memory: MemoryUse) -> list[Sample]:
    return [({"kind": "used"}, memory.vram_used), ({"kind": "total"}, memory.vram_total)]


def _family(name: str, kind: str, says: str, samples: Iterable[Sample]) -> str:
    name = f"flux_speedup_{name}"
    lines = [f"# HELP {name} {says}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        if value is None or not math.isfinite(value):
            continue
        inside = ",".join(f'{key}="{_escaped(of)}"' for key, of in labels.items())
        shown = str(int(value)) if value % 1 == 0 else repr(float(value))
        lines.append(f"{name}{{{inside}}} {shown}" if inside else f"{name} {shown}")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _escaped(label: str) -> str:
    return text(label).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
