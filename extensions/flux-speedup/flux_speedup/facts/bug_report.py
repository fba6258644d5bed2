"""What somebody pastes into a bug report: versions, status, configuration, figures; no paths, names or prompts."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from ..patching.table import Outcome, State
from ..stats.events import Event
from ..stats.machine import Machine, Savings
from ..stats.report import printable, seconds, size, speed, spent, steps_sentence, way
from ..stats.requests import Request
from .view import ConfigRow, MemoryUse, Status

LIBRARIES = ("torch", "gradio", "safetensors", "pydantic")
# Components have names of ours; a checkpoint's is its file's.
NAMED = ("transformer", "text encoders", "vae")
_PATH = re.compile(
    r"""(?:^|[\s'"(=])(?:[A-Za-z]:)?[\\/]\S|[A-Za-z]:\\|\.(?:safetensors|sft|ckpt|pth?|bin|gguf|json|ya?ml|png)\b""",
    re.IGNORECASE,
)
LEFT_OUT = "left out: it names a file"


def text(
    status: Status,
    config: Sequence[ConfigRow],
    events: Iterable[Event],
    requests: Iterable[Request],
    machine: Machine | None,
    savings: Savings,
    memory: MemoryUse,
) -> str:
    """All of it, as lines."""
    lines = [
        f"flux-speedup {status.version} on {status.host}, {'on' if status.enabled else 'off'}",
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        ", ".join(f"{name} {found}" for name in LIBRARIES if (found := _version(name))),
        f"card: {printable(status.card)}{' (simulated)' if status.simulated else ''}",
        f"tier: {status.tier or 'none'} ({printable(status.tier_why)})",
        "",
        "changes:",
        *(_outcome(each) for each in status.outcomes),
        "",
        "changed from the defaults:",
        *_changed(config),
        "",
        "newest events:",
        *(_event(each) for each in events),
        "",
        "newest requests:",
        *(_request(each) for each in requests),
        "",
        f"saved: {seconds(savings.since_start)} since start, {printable(savings.how)}",
        f"machine: {_machine(machine)}",
        f"memory: {_memory(memory)}",
    ]
    return "\n".join(lines) + "\n"


def without_paths(sentence: str) -> str:
    """The sentence; where it may name a file, nothing of it: names have spaces and whatever else."""
    return LEFT_OUT if _PATH.search(sentence) else printable(sentence)


def _version(name: str) -> str:
    return str(getattr(sys.modules.get(name), "__version__", ""))


def _outcome(outcome: Outcome) -> str:
    # What failed says why in the words of somebody else, which may hold anything.
    failed = outcome.state is State.FAILED
    why = outcome.why.partition(":")[0] if failed else without_paths(outcome.why)
    return f"  {outcome.item}: {outcome.state.value}" + (f" ({why})" if why else "")


def _changed(config: Sequence[ConfigRow]) -> list[str]:
    changed = [row for row in config if row.value != row.default]
    lines = [f"  {row.key} = {_told(row)} ({_source(row.source)})" for row in changed]
    return lines or ["  nothing"]


def _told(row: ConfigRow) -> str:
    return "set" if row.private else without_paths(str(row.value))


def _source(source: str) -> str:
    return source if source in ("command line", "environment", "settings", "built-in default") else "a file"


def _event(event: Event) -> str:
    what = event.what if event.what in NAMED else "a model"
    return f"  {event.kind} {what}: {spent(event)} {way(event)}".rstrip()


def _request(request: Request) -> str:
    parts = ", ".join(f"{part} {seconds(took)}" for part, took in request.parts.items())
    passes = ", ".join(
        f"{printable(each.name)} {seconds(each.seconds)}"
        + (f", {steps_sentence(each.steps)}" if each.steps is not None else "")
        for each in request.passes
    )
    failed = ", failed" if request.failed else ""
    return (
        f"  {request.kind} by {request.via}: {seconds(request.seconds)}{failed} ({parts}; passes: {passes})"
    )


def _machine(machine: Machine | None) -> str:
    if machine is None:
        return "not measured"
    rates = {name: value for name, value in asdict(machine).items() if name not in ("at", "device")}
    return ", ".join(f"{name} {speed(value)}" for name, value in rates.items() if value is not None)


def _memory(memory: MemoryUse) -> str:
    known = {name: value for name, value in asdict(memory).items() if isinstance(value, int)}
    streamed = [
        f"{each.component if each.component in NAMED else 'a model'}: {size(each.resident)} stay, "
        f"{size(each.coming)} stream ({each.source})"
        for each in memory.streamed
    ]
    return ", ".join([*(f"{name} {size(value)}" for name, value in known.items()), *streamed])
