"""Events as people read them: sentences and the start-up table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .events import GB, STARTUP, UNLOAD, Event, KindTotal, rate_gb_s
from .requests import Request

MB = 1e6
KB = 1e3


def printable(text: str) -> str:
    """`text` on one line and encodable: control characters and lone surrogates become escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in str(text)
    )


def size(count: int) -> str:
    """A number of bytes, as "23.8 GB" (10^9), "335 MB" (10^6), "487 kB" (10^3) or "900 bytes"."""
    if count >= GB:
        return f"{count / GB:.1f} GB"
    if count >= MB:
        return f"{count / MB:.0f} MB"
    return f"{count / KB:.0f} kB" if count >= KB else f"{count} bytes"


def speed(rate: float) -> str:
    """A rate in GB/s, as "46.7 GB/s", "0.55 GB/s" or, where that would say nothing, "3.1 MB/s"."""
    if 0 < rate < 0.01:
        return f"{1000 * rate:.2g} MB/s"
    return f"{rate:.{2 if rate < 1 else 1}f} GB/s"


def duration(seconds: float) -> str:
    """Seconds, as "0.51 s" or, where that would say nothing, "3 ms"."""
    # From 9.5 ms on, two digits after the point say more.
    return f"{1000 * seconds:.1g} ms" if 0 < seconds < 0.0095 else f"{seconds:.2f} s"


def figures(count: int, seconds: float) -> str:
    """Bytes, seconds and rate, as "23.8 GB in 0.51 s, 46.7 GB/s"; leaves out what does not apply."""
    if not count:
        return duration(seconds)
    rate = rate_gb_s(count, seconds)
    text = f"{size(count)} in {duration(seconds)}"
    return text if rate is None else f"{text}, {speed(rate)}"


def way(event: Event) -> str:
    """From where to where, as "page cache -> GPU", "from GPU" or "to GPU"; "" where neither end is known."""
    source, target = printable(event.source), printable(event.target)
    if source and target:
        return f"{source} -> {target}"
    return f"from {source}" if source else f"to {target}" if target else ""


def spent(event: Event) -> str:
    """`figures` of an event. An unload has no speed: where nothing is copied, bytes and seconds make none."""
    if event.kind == UNLOAD and event.bytes:
        return f"{size(event.bytes)} in {duration(event.seconds)}"
    return figures(event.bytes, event.seconds)


def sentence(event: Event) -> str:
    """An event on one line, as "transformer: 23.8 GB in 0.51 s, 46.7 GB/s, page cache -> GPU"."""
    parts = [spent(event), way(event), printable(event.detail)]
    head = f"{printable(event.what)}{' unloaded' if event.kind == UNLOAD else ''}"
    return f"{head}: {', '.join(part for part in parts if part)}"


def request_sentence(request: Request) -> str:
    """A request on one line, as "txt2img: 23.1 s (load 0.4 s, sampling 20.3 s, other 2.4 s)"."""
    parts = [f"{part} {seconds:.1f} s" for part, seconds in request.parts.items() if seconds >= 0.05]
    text = f"{printable(request.kind)}: {request.seconds:.1f} s"
    return text + (f" ({', '.join(parts)})" if parts else "") + (", failed" if request.failed else "")


def total_sentence(kind: str, total: KindTotal) -> str:
    """One kind's sum on one line, as "move: 3 times, 71.4 GB in 1.53 s, 46.7 GB/s"."""
    times = "once" if total.count == 1 else f"{total.count} times"
    return f"{printable(kind)}: {times}, {figures(total.bytes, total.seconds)}"


@dataclass(frozen=True)
class Stage:
    """One row of the start-up table; share is the part (0 to 1) of all stages' seconds."""

    name: str
    seconds: float
    share: float
    detail: str


def startup_table(events: Iterable[Event]) -> list[Stage]:
    """The stages of the start among `events`, in the order in which they ended."""
    stages = sorted((event for event in events if event.kind == STARTUP), key=lambda event: event.at)
    whole = sum(stage.seconds for stage in stages)
    return [
        Stage(stage.what, stage.seconds, stage.seconds / whole if whole > 0 else 0.0, stage.detail)
        for stage in stages
    ]


def startup_lines(table: Sequence[Stage]) -> list[str]:
    """The start-up table as lines with aligned columns, the sum last; [] where there are no stages."""
    if not table:
        return []
    rows = [(printable(stage.name), stage.seconds, stage.share) for stage in table]
    rows.append(("all stages", sum(stage.seconds for stage in table), sum(stage.share for stage in table)))
    width = max(len(name) for name, _, _ in rows)
    return [f"{name:<{width}}  {seconds:7.2f} s  {share:4.0%}" for name, seconds, share in rows]
