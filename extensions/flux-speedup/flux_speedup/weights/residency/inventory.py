"""What a model consists of: which form its weights have, and which way each of them goes to a device.

Looked at, never remembered: whatever a later load, a LoRA or the host does to a weight shows in the next answer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import torch

from ...stats.report import size
from ..files.span import dense
from .backing import Backing
from .forms import recipe_of, why_not
from .roster import Entry
from .shells import form_around
from .state import AtHome, Elsewhere, OnDevice


class Way(Enum):
    """How a weight comes to a device: as its file has it, made there of the file's bytes, from RAM, by the host; or
    that it is there, as a LoRA or the host has left it."""

    FILE = "file"
    MADE = "file, made on the card"
    RAM = "RAM"
    HOST = "WebUI"
    THERE = "on the card"


_PLAIN = (torch.Tensor, torch.nn.Parameter)
# Those whose PyTorch names say more than people do.
_NAMES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.float64: "fp64",
}


@dataclass(frozen=True)
class Share:
    """Weights of one form that go one way. `why`: for what is none of ours to move."""

    form: str
    way: Way
    count: int
    bytes: int
    why: str = ""


def inventory(entries: Iterable[Entry]) -> tuple[Share, ...]:
    """The shares of a module's tensors, the most bytes first; scales have the form of what they scale."""
    sums: dict[tuple[str, Way, str], tuple[int, int]] = {}
    listed = list(entries)
    each_form = [form_of(entry.tensor) for entry in listed]
    own = {name: form for entry, form in zip(listed, each_form, strict=True) for name in entry.names}
    for entry, form in zip(listed, each_form, strict=True):
        key = own.get(entry.parameter, form), *_way(entry)
        count, length = sums.get(key, (0, 0))
        sums[key] = count + 1, length + _bytes(entry)
    shares = [
        Share(form, way, count, length, why) for (form, way, why), (count, length) in sums.items() if length
    ]
    return tuple(sorted(shares, key=lambda share: share.bytes, reverse=True))


def form_of(tensor: torch.Tensor) -> str:
    """A weight's form as people call it: "bf16", "fp8 e4m3", "GGUF Q4_K", "NF4", or its class."""
    told = _told_of(tensor) if type(tensor) not in _PLAIN or vars(tensor) else None
    return told or _form_of(tensor.dtype)


def _told_of(tensor: torch.Tensor) -> str | None:
    """What its class, what it is a part of, or who made it tells."""
    around = form_around(tensor)
    if around is not None:
        return around
    quantised = getattr(tensor, "gguf_cls", None)
    if quantised is not None:
        return f"GGUF {quantised.__name__}"
    packed = getattr(tensor, "quant_type", None)
    if isinstance(packed, str) and hasattr(tensor, "quant_state"):
        return packed.upper()
    layout = getattr(tensor, "_layout_cls", None)
    return None if layout is None else str(getattr(layout, "__name__", layout))


@functools.cache
def _form_of(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name.startswith("float8_"):
        return f"fp8 {name.removeprefix('float8_').removesuffix('fn')}"
    return _NAMES.get(dtype, name)


def forms(shares: Iterable[Share]) -> str:
    """The forms that make up a hundredth or more, as "GGUF Q8_0 + fp32"."""
    sums: dict[str, int] = {}
    for share in shares:
        sums[share.form] = sums.get(share.form, 0) + share.bytes
    whole = sum(sums.values())
    return " + ".join(form for form, length in sums.items() if 100 * length >= whole)


def left_to_host(shares: Iterable[Share]) -> str:
    """What is none of ours to move, and why, as "GGUF Q4_K 6.1 GB by the WebUI (of a form we do not move)"."""
    words = {Way.HOST: "by the WebUI", Way.THERE: "on the card already"}
    return "; ".join(
        f"{share.form} {size(share.bytes)} {words[share.way]} ({share.why})"
        for share in shares
        if share.way in words
    )


def _way(entry: Entry) -> tuple[Way, str]:
    state = entry.state
    if isinstance(state, Elsewhere):
        return _elsewhere(entry.tensor)
    assert isinstance(state, (AtHome, OnDevice))
    if state.backing is Backing.HOST:
        return Way.RAM, ""
    recipe = state.recipe if isinstance(state, OnDevice) else recipe_of(entry.tensor)
    return (Way.FILE if recipe is None else Way.MADE), ""


def _elsewhere(tensor: torch.Tensor) -> tuple[Way, str]:
    if tensor.device.type == "meta":
        return Way.HOST, "without data"
    if not dense(tensor):
        return Way.HOST, "of a class of its own"
    if tensor.device.type == "cpu":
        return Way.HOST, why_not(tensor)
    return Way.THERE, "with a LoRA in them, or put there by the WebUI"


def _bytes(entry: Entry) -> int:
    if isinstance(entry.state, OnDevice):
        return entry.state.home.nbytes
    data = entry.tensor.data
    return int(data.nelement() * data.element_size())
