"""The tensors of a module and their names, as torch lists them, in a fifth of its time: asked at every move."""

from __future__ import annotations

from collections.abc import Iterable

import torch

Named = list[tuple[str, torch.Tensor]]


def all_names(module: torch.nn.Module) -> tuple[Named, Named]:
    """Parameters and buffers under all their names: `named_parameters` and `named_buffers` with duplicates."""
    parameters: Named = []
    buffers: Named = []
    _collect(module, "", parameters, buffers)
    return parameters, buffers


def named_parameters(module: torch.nn.Module) -> Named:
    """Each parameter once, under its first name."""
    return _once(all_names(module)[0])


def all_tensors(module: torch.nn.Module) -> Named:
    """Parameters, then buffers, each once, under its first name."""
    parameters, buffers = all_names(module)
    return [*_once(parameters), *_once(buffers)]


def parameters_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """Each parameter once."""
    return [parameter for _, parameter in named_parameters(module)]


def named_modules(module: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """Each part once, under its first name, each before its own parts; the module itself under ""."""
    found: dict[torch.nn.Module, str] = {}
    _parts(module, "", found)
    return [(name, part) for part, name in found.items()]


def _once(named: Iterable[tuple[str, torch.Tensor]]) -> Named:
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for one in named:
        found.setdefault(id(one[1]), one)
    return list(found.values())


def _collect(module: torch.nn.Module, prefix: str, parameters: Named, buffers: Named) -> None:
    for own, listed in ((module._parameters, parameters), (module._buffers, buffers)):
        if own:
            listed += [(prefix + name, tensor) for name, tensor in own.items() if tensor is not None]
    for name, child in module._modules.items():
        if child is not None:
            _collect(child, f"{prefix}{name}.", parameters, buffers)


def _parts(module: torch.nn.Module, name: str, found: dict[torch.nn.Module, str]) -> None:
    if module in found:
        return
    found[module] = name
    prefix = f"{name}." if name else ""
    for own, child in module._modules.items():
        if child is not None:
            _parts(child, prefix + own, found)
