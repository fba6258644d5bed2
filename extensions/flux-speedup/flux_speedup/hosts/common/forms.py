"""Which form a model's weights have and which way they go, for a load's line and for the tab."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...stats.events import BY_HOST

if TYPE_CHECKING:
    from ...weights.residency.inventory import Share
    from ...weights.residency.placement import Placement

Inventory = Callable[[Any], "tuple[Share, ...]"]


@dataclass(frozen=True)
class FormUse:
    """Weights of a component that have one form and go one way to the device.

    form: "bf16", "GGUF Q8_0", "NF4". way: "file", "file, made on the card", "RAM", "WebUI" or "on the card".
    why: for the last two.
    """

    component: str
    form: str
    way: str
    count: int
    bytes: int
    why: str = ""


def arrival(placement: Placement | None, model: Any, streams: str = "") -> tuple[str, str]:
    """Where the weights that a model has just got came from, and what is to be told of them.

    placement: None where weights are left to the host. streams: what of the model streams, "" for nothing.
    """
    from ...weights.residency.inventory import forms, left_to_host

    found = placement.arrival(model) if placement is not None else None
    shares = as_it_is(model) if placement is None else placement.of(model).inventory() or ()
    if found is None and not streams:
        why = left_to_host(shares) if placement is not None else forms(shares)
        return "RAM", f"{BY_HOST}: {why or forms(shares)}"
    told = (forms(shares), found.sentence() if found is not None else "", left_to_host(shares), streams)
    return (found.source if found is not None else "RAM"), "; ".join(filter(None, told))


def as_it_is(module: Any) -> tuple[Share, ...]:
    """What a module consists of, where nothing of ours has to do with it: all of it is the host's."""
    from torch.nn import Module

    from ...weights.residency.inventory import Share, Way, form_of

    if not isinstance(module, Module):
        return ()
    sums: dict[str, tuple[int, int]] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        count, length = sums.get(form_of(tensor), (0, 0))
        sums[form_of(tensor)] = count + 1, length + tensor.nelement() * tensor.element_size()
    shares = [Share(form, Way.HOST, count, length) for form, (count, length) in sums.items() if length]
    return tuple(sorted(shares, key=lambda share: share.bytes, reverse=True))


def uses(component: str, shares: Iterable[Share]) -> tuple[FormUse, ...]:
    """The same as the tab and the API show it."""
    return tuple(
        FormUse(component, each.form, each.way.value, each.count, each.bytes, each.why) for each in shares
    )
