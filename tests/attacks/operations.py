"""Which operations run, as kernels tell them apart: by name, and by the dtypes of what they take and give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Kernel = tuple[str, tuple[str, ...], tuple[str, ...]]
# What launches nothing: other views of the same memory, and memory that nobody has written yet.
_VIEWS = {"view", "transpose", "t", "permute", "expand", "unsqueeze", "squeeze", "slice", "select", "split"}
_VIEWS |= {
    "split_with_sizes",
    "chunk",
    "detach",
    "detach_",
    "as_strided",
    "unbind",
    "reshape",
    "movedim",
    "numpy_T",
}
_VIEWS |= {"empty", "empty_like", "new_empty", "unflatten", "flatten", "dropout_", "contiguous"}
_VIEWS |= {"_has_compatible_shallow_copy_type", "alias", "lift_fresh"}
_COPIES = frozenset({"to", "_to_copy", "type_as", "copy_"})
_SAME = {"hstack": "cat", "new_zeros": "zeros", "full_like": "full", "zeros_like": "zeros", "clamp_": "clamp"}


class Operations(TorchDispatchMode):
    """While entered, collects them in `kernels`."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: set[Kernel] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func).split(".")[1]
        taken, given = _dtypes((args, kwargs)), _dtypes(out)
        name = "copy" if name in _COPIES else _SAME.get(name, name)
        if name == "copy":
            taken = taken[-1:] if "copy_" in str(func) else taken[:1]
        if name == "cat":
            taken = taken[:1]
        if name not in _VIEWS and not (name == "copy" and taken == given):
            self.kernels.add((name, taken, given))
        return out


def _dtypes(found: Any) -> tuple[str, ...]:
    return tuple(
        str(each.dtype).removeprefix("torch.") + ("" if each.dim() else " scalar")
        for each in tree_leaves(found)
        if isinstance(each, torch.Tensor)
    )
