"""What ours cannot move, the host moves: modules of a model, and names of what they have."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch

from ...weights.named import all_names
from ...weights.residency.shells import alike, parts_of


def moved_or_as_before(modules: Iterable[torch.nn.Module], device: torch.device) -> None:
    """The host's own move. Where it fails, what it moved is as it was: it would come home as copies."""
    modules = list(modules)
    before = [
        (own, name, tensor, alike(tensor))
        for module in modules
        for each in module.modules()
        for own in _owners(each)
        for name, tensor in own.items()
        if tensor is not None
    ]
    try:
        for module in modules:
            module.to(device)
    except BaseException:
        for own, name, tensor, data in before:
            if parts_of(tensor):  # PyTorch has exchanged what it is around
                own[name] = torch.nn.Parameter(data, requires_grad=False)
            else:
                tensor.data, own[name] = data, tensor  # the host may have put another parameter there
        raise


def _owners(module: torch.nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    return module._parameters, module._buffers


def names_within(model: torch.nn.Module, chosen: list[torch.nn.Module]) -> set[str]:
    """Names, in the model, of the weights and buffers of some of its modules."""
    wanted = {id(tensor) for module in chosen for tensor in (*module.parameters(), *module.buffers())}
    return {name for name, tensor in chain(*all_names(model)) if id(tensor) in wanted}


def move_the_rest(model: torch.nn.Module, device: torch.device, names: tuple[str, ...]) -> None:
    """Move what ours does not: quantised weights, buffers of the host's own making, merged weights elsewhere."""
    for parent in dict.fromkeys(name.rpartition(".")[0] for name in names):
        module = model.get_submodule(parent)
        own = {name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == parent}
        tensors = [getattr(module, name) for name in own]
        left = {id(tensor) for tensor in tensors if tensor.device != device}
        if not left:
            continue
        module._apply(lambda t, left=left: t.to(device) if id(t) in left else t, recurse=False)  # type: ignore[misc]
