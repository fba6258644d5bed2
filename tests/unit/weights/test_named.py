"""Names of a module's tensors and parts: those that torch has, in its order, whatever is there twice."""

from __future__ import annotations

import pytest
import torch

from flux_speedup.weights import named


class Oddly(torch.nn.Module):
    """A tied weight, a shared part, one without a bias, one that was taken out, buffers of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(2, 2, bias=False)
        self.norm = torch.nn.BatchNorm1d(2)
        self.parts = torch.nn.ModuleList([self.first, torch.nn.Sequential(torch.nn.Linear(2, 2), self.norm)])
        self.tied = torch.nn.Linear(2, 2)
        self.tied.weight = self.first.weight
        self.gone = None
        self.register_module("none", None)
        self.register_buffer("kept", torch.zeros(1))
        self.register_buffer("passing", torch.zeros(1), persistent=False)
        self.itself = torch.nn.ModuleDict({"again": self.tied})


def same(one: list[tuple[str, object]], other: list[tuple[str, object]]) -> bool:
    return [(name, id(each)) for name, each in one] == [(name, id(each)) for name, each in other]


@pytest.mark.parametrize("module", [Oddly(), torch.nn.Linear(2, 2), torch.nn.Identity()])
def test_they_are_as_torch_lists_them(module: torch.nn.Module) -> None:
    parameters, buffers = named.all_names(module)
    assert same([*parameters], [*module.named_parameters(remove_duplicate=False)])
    assert same([*buffers], [*module.named_buffers(remove_duplicate=False)])
    assert same([*named.named_parameters(module)], [*module.named_parameters()])
    assert same([*named.all_tensors(module)], [*module.named_parameters(), *module.named_buffers()])
    assert [id(each) for each in named.parameters_of(module)] == [id(each) for each in module.parameters()]
    assert same([*named.named_modules(module)], [*module.named_modules()])
