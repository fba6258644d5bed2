"""A module gets back exactly the tensors it was built with."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup.weights.errors import WeightsError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import find
from flux_speedup.weights.residency.as_built import AsBuilt
from tests.second_device import CARD
from tests.second_device.marks import needs_card
from tests.unit.weights.weight_files import (
    module_of,
    random_tensor,
    raw_bytes,
    residency_of,
    write_weights,
)

pytestmark = needs_card
MODES: dict[str, Any] = {
    "grad": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}


class Case:
    """A module over a file, with a RAM tensor and a buffer, as it was built."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry()
        self.tensors = {name: random_tensor((30, 40), torch.bfloat16, seed) for seed, name in enumerate("ab")}
        path = write_weights(folder / "a.safetensors", self.tensors)
        with torch.inference_mode():
            views = self.registry.open(path).views()
            ram = torch.ones(3, 4, dtype=torch.float16)
            self.module = module_of({**views, "ram": ram}, {"positions": torch.arange(9)})
            self.built = AsBuilt(self.module)
        self.objects = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}

    def expect_as_built(self) -> None:
        now = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        assert {name: id(t) for name, t in now.items()} == {name: id(t) for name, t in self.objects.items()}
        for name, tensor in self.tensors.items():
            assert raw_bytes(now[name]) == raw_bytes(tensor)
            assert find(now[name].detach(), self.registry) is not None, "no view of the file"
        assert now["ram"].dtype is torch.float16
        assert now["ram"].sum() == 12


@pytest.mark.parametrize("mode", MODES)
def test_other_objects_other_data_other_dtypes_are_undone(tmp_path: Path, mode: str) -> None:
    case = Case(tmp_path)
    with MODES[mode]():
        case.module.a = torch.nn.Parameter(torch.zeros(30, 40), requires_grad=False)
        case.module.b.data = case.module.b.data.clone()
        case.module.ram.data = case.module.ram.data.float()
        case.module.positions = torch.arange(3)
        assert case.built.restore() == 4
        case.expect_as_built()
        assert case.built.restore() == 0


def test_after_a_load_a_merge_and_an_unload_the_module_loads_again(tmp_path: Path) -> None:
    case = Case(tmp_path)
    residency = residency_of(case.module, case.registry)
    for _ in range(2):
        residency.load(CARD)
        case.module.b = torch.nn.Parameter(torch.zeros(30, 40, dtype=torch.bfloat16), requires_grad=False)
        case.module.a.data = torch.ones_like(case.module.a)
        residency.unload()
        case.built.restore()
        case.expect_as_built()
    residency.load(CARD)
    assert raw_bytes(case.module.b) == raw_bytes(case.tensors["b"])


def test_a_parameter_under_two_names_is_one_again(tmp_path: Path) -> None:
    module = torch.nn.Module()
    module.one = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    module.inner = torch.nn.Module()
    module.inner.two = module.one
    built = AsBuilt(module)
    module.one = torch.nn.Parameter(torch.zeros(3), requires_grad=False)
    built.restore()
    assert module.one is module.inner.two
    assert module.one.sum() == 3


def test_what_was_replaced_keeps_no_memory_and_is_made_anew() -> None:
    module = torch.nn.Linear(3, 3)
    module.requires_grad_(False)
    home, tied = module.weight.data, module.weight
    module.other = torch.nn.Module()
    module.other.tied = tied
    built = AsBuilt(module)
    tied.data = on_the_card = torch.ones(3, 3)  # brought to a device
    gone = weakref.ref(on_the_card.untyped_storage())
    module.weight = module.other.tied = torch.nn.Parameter(torch.zeros(3, 3), False)  # merged into
    del tied, on_the_card
    assert gone() is None
    built.leave(())
    for _ in range(2):
        assert built.restore() in (0, 2)
        assert module.weight is module.other.tied
        assert not module.weight.requires_grad
        assert module.weight.data_ptr() == home.data_ptr()


@pytest.mark.parametrize("change", ["parameter", "module", "replaced module"])
def test_a_module_with_other_parts_is_refused_and_left_alone(tmp_path: Path, change: str) -> None:
    case = Case(tmp_path)
    case.module.inner = torch.nn.Linear(2, 2)
    built = AsBuilt(case.module)
    other = torch.zeros(30, 40)
    case.module.a.data = other
    if change == "parameter":
        case.module.new = torch.nn.Parameter(torch.zeros(1))
    elif change == "module":
        case.module.new = torch.nn.Module()
    else:
        case.module.inner = torch.nn.Linear(2, 2)
    with pytest.raises(WeightsError, match="other parts"):
        built.restore()
    assert case.module.a.data_ptr() == other.data_ptr()


def test_what_is_not_at_home_or_only_the_host_can_move_is_refused() -> None:
    module = torch.nn.Linear(2, 2)
    module.weight = torch.nn.Parameter(torch.zeros(2, 2, device="meta"))
    with pytest.raises(WeightsError, match="stays there"):
        AsBuilt(module)


def test_hooks_and_attributes_that_a_new_build_would_not_have_are_taken_away(tmp_path: Path) -> None:
    case = Case(tmp_path)
    inner = case.module.inner = torch.nn.Linear(2, 2)
    own = inner.register_forward_hook(lambda *_: None)
    inner.note = "built"
    built = AsBuilt(case.module)
    asked: list[str] = []
    left = [
        inner.register_forward_pre_hook(lambda *_: asked.append("pre")),
        inner.register_forward_hook(
            lambda *_, **__: asked.append("hook"), with_kwargs=True, always_call=True
        ),
        case.module.register_full_backward_hook(lambda *_: None),
    ]
    inner.forward = lambda x: asked.append("forward") or x  # type: ignore[method-assign,func-returns-value]
    inner.note, inner.cache = "changed", torch.zeros(3)
    case.module.eval()
    built.restore()
    inner(torch.zeros(1, 2))
    assert asked == []
    assert (inner.note, hasattr(inner, "cache"), "forward" in vars(inner)) == ("built", False, False)
    assert case.module.training
    assert list(inner._forward_hooks) == [own.id]
    again = inner.register_forward_pre_hook(lambda *_: asked.append("again"))
    for handle in (*left, own):
        handle.remove()
    inner(torch.zeros(1, 2))
    assert asked == ["again"]
    again.remove()
    assert not inner._forward_hooks


@needs_card
def test_what_others_put_on_a_device_leaves_it_without_a_copy() -> None:
    module = torch.nn.Linear(3, 2)
    before = [parameter.data_ptr() for parameter in module.parameters()]
    as_built = AsBuilt(module)
    module.to(CARD, torch.float64)
    as_built.leave({id(module.bias)})
    assert module.weight.data_ptr() == before[0]
    assert module.bias.device == CARD
    as_built.restore()
    assert [parameter.data_ptr() for parameter in module.parameters()] == before
