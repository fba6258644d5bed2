"""Weights without bytes of their own: a host's class around plain tensors (packed values, and their scales).

The plain ones are what is moved, under the name of the weight. The shell only tells the host where they are, and
what they stand for: whoever gives one of them other data does so by `show`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from ..files.span import plain
from ..inference import made_in_inference


class Shell(NamedTuple):
    """One of a host's classes. `parts`: its tensors by name, the same objects at every question.

    settle: one of them has other data now. form: what people call it. alike: another one around tensors of its own
    that show the same memory.
    """

    parts: Callable[[Any], Mapping[str, torch.Tensor]]
    settle: Callable[[Any], None]
    form: Callable[[Any], str]
    alike: Callable[[Any], torch.Tensor]


SHELLS: dict[type[torch.Tensor], Shell] = {}
"""What is known of hosts' classes; their rooms put them in and take them out."""
_OWNER = "_flux_speedup_shell"


def parts_of(tensor: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """What a shell is around, by name; nothing for any other tensor, and where a part is not plain bytes."""
    shell = SHELLS.get(type(tensor))
    found = {} if shell is None else shell.parts(tensor)
    if not all(plain(part) for part in found.values()):
        return {}
    for part in found.values():
        setattr(part, _OWNER, weakref.ref(tensor))
    return found


def show(tensor: torch.Tensor, data: torch.Tensor) -> None:
    """The tensor object has this data from now on; a shell around it knows."""
    tensor.data = _for_inference(data) if made_in_inference(tensor) and not data.is_inference() else data
    owner = getattr(tensor, _OWNER, None)
    if owner is not None and (found := owner()) is not None:
        settle(found)


def _for_inference(data: torch.Tensor) -> torch.Tensor:
    """The same memory as a tensor of inference mode: one of it that shows any other can be used no more."""
    with torch.inference_mode():
        empty = torch.empty(0, dtype=data.dtype, device=data.device)
        return empty.set_(data.untyped_storage(), data.storage_offset(), data.shape, data.stride())


def settle(tensor: torch.Tensor) -> None:
    """A shell tells what its parts show now; of any other tensor nothing is to be told."""
    shell = SHELLS.get(type(tensor))
    if shell is not None:
        shell.settle(tensor)


def alike(tensor: torch.Tensor) -> torch.Tensor:
    """Another tensor object that shows what this one shows now."""
    shell = SHELLS.get(type(tensor))
    return tensor.data if shell is None else shell.alike(tensor)


def form_around(tensor: torch.Tensor) -> str | None:
    """The form of the weight that a tensor is a part of; None for one that is no part."""
    owner = getattr(tensor, _OWNER, None)
    found = owner() if owner is not None else None
    shell = SHELLS.get(type(found)) if found is not None else None
    return None if shell is None else shell.form(found)
