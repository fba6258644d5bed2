"""Bytes, seconds and speeds as people read them anywhere in here, and sentences made of them. Pure."""

from __future__ import annotations

import math

from .events import GB, KEPT, UNLOAD, Event, rate_gb_s
from .requests import Request, Steps

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


def seconds(value: float) -> str:
    """Seconds with the digits that matter: "3 ms", "0.51 s", "1.53 s", "12.3 s", "148 s"; "?" for no number."""
    if not math.isfinite(value):
        return "?"
    # From 9.5 ms on, two digits after the point say more.
    if 0 < value < 0.0095:
        return f"{1000 * value:.1g} ms"
    return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f} s"


def span(value: float) -> str:
    """A time that may be long: "0.51 s", "148 s", "12 min 4 s", "3 h 20 min"; what was lost has a minus."""
    if value < 0:
        return f"−{span(-value)}"  # noqa: RUF001
    if not value:
        return "0 s"
    if value < 600 or not math.isfinite(value):
        return seconds(value)
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def figures(count: int, spent: float) -> str:
    """Bytes, seconds and rate, as "23.8 GB in 0.51 s, 46.7 GB/s"; leaves out what does not apply."""
    if not count:
        return seconds(spent)
    rate = rate_gb_s(count, spent)
    text = f"{size(count)} in {seconds(spent)}"
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
        return f"{size(event.bytes)} in {seconds(event.seconds)}"
    return figures(event.bytes, event.seconds)


def sentence(event: Event) -> str:
    """An event on one line, as "transformer: 23.8 GB in 0.51 s, 46.7 GB/s, page cache -> GPU"."""
    if event.source == KEPT:
        return f"{printable(event.what)} was kept and is used again ({seconds(event.seconds)})"
    parts = [spent(event), way(event), printable(event.detail)]
    head = f"{printable(event.what)}{' unloaded' if event.kind == UNLOAD else ''}"
    return f"{head}: {', '.join(part for part in parts if part)}"


def per_step(value: float) -> str:
    """Seconds an iteration, three digits: "0.252 s/it", "2.41 s/it"."""
    return f"{value:.3g} s/it" if math.isfinite(value) else "?"


def steps_sentence(steps: Steps) -> str:
    """As "20 x 0.252 s/it, 13.6 GB each at 54.0 GB/s, 0.02 s of it waited for weights"."""
    parts = [f"{steps.count} x {per_step(steps.seconds)}"]
    if steps.rate is not None:
        parts.append(f"{size(steps.bytes)} each at {speed(steps.rate)}")
    if steps.waited is not None:
        parts.append(f"{seconds(steps.waited)} of it waited for weights")
    return ", ".join(parts)


def request_sentence(request: Request) -> str:
    """A request on one line, as "txt2img: 23.1 s (load 0.40 s, sampling 20.3 s, other 2.40 s); 20 x 1.01 s/it"."""
    parts = [f"{part} {seconds(took)}" for part, took in request.parts.items() if took >= 0.05]
    text = f"{printable(request.kind)}: {seconds(request.seconds)}"
    text += (f" ({', '.join(parts)})" if parts else "") + (", failed" if request.failed else "")
    sampled = [each for each in request.passes if each.steps is not None]
    told = [steps_sentence(each.steps) for each in sampled if each.steps is not None]
    if len(told) > 1:
        told = [f"{printable(each.name)} {said}" for each, said in zip(sampled, told, strict=True)]
    return "; ".join([text, *told])
