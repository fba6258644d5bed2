"""Files as models whose weights are their mapped bytes, and whether those arrive as they are."""

from __future__ import annotations

import torch

from flux_speedup.weights.files.mapping import Mapping
from flux_speedup.weights.residency.residency import Residency
from measure.output import say

from .rows import Bench


def module_of(*mappings: Mapping) -> torch.nn.Module:
    """A module whose parameters are the views of whole files, as a WebUI's built model has them."""
    module = torch.nn.Module()
    for number, mapping in enumerate(mappings):
        for name, view in mapping.views().items():
            parameter = torch.nn.Parameter(view, requires_grad=False)
            module.register_parameter(parameter_name(number, name), parameter)
    return module


def parameter_name(number: int, name: str) -> str:
    return f"{number}/{name}".replace(".", "/")


def size_of(module: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def size_of_tensors(mapping: Mapping) -> int:
    return sum(entry.length for entry in mapping.header.tensors.values())


def check_bytes(bench: Bench, residency: Residency, module: torch.nn.Module, *mappings: Mapping) -> None:
    """Every byte on the device against the file."""
    residency.load(bench.device)
    for number, mapping in enumerate(mappings):
        for name, view in mapping.views().items():
            there = module.get_parameter(parameter_name(number, name)).detach()
            here = view.to(bench.device)
            if not torch.equal(there.reshape(-1).view(torch.uint8), here.reshape(-1).view(torch.uint8)):
                raise SystemExit(f"{mapping.path}: tensor {name} arrived with other bytes")
    residency.unload()
    say(f"bytes checked: {', '.join(str(mapping.path.name) for mapping in mappings)}")
