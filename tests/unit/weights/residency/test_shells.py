"""Weights whose bytes are in other tensors: those come and go, and the one around them tells where they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import find
from flux_speedup.weights.residency.as_built import AsBuilt
from flux_speedup.weights.residency.forms import bytes_of, known
from flux_speedup.weights.residency.inventory import forms, left_to_host
from flux_speedup.weights.residency.shells import SHELLS, Shell, alike, form_around
from flux_speedup.weights.streaming.unit import Unit
from tests import second_device
from tests.second_device import used
from tests.second_device.marks import needs_card
from tests.unit.weights.weight_files import residency_of, write_weights

CARD = second_device.CARD
pytestmark = needs_card
VALUES = torch.arange(4096, dtype=torch.uint8)
SCALE = torch.rand(16)


class Around(torch.Tensor):
    """A host's class: it tells PyTorch where it is once, when it is made."""

    values: torch.Tensor
    scale: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor, scale: torch.Tensor) -> Any:
        shape = (values.numel(),)
        found = torch.Tensor._make_wrapper_subclass(cls, shape, device=values.device, dtype=torch.float32)  # type: ignore[attr-defined]
        found.values, found.scale = values, scale
        return found

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._has_compatible_shallow_copy_type.default:
            return True
        assert func is torch.ops.aten.detach.default, func
        return Around(args[0].values, args[0].scale)


def settle(tensor: Any) -> None:
    if tensor.device != tensor.values.device:
        tensor.data = Around(tensor.values, tensor.scale)


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    SHELLS[Around] = Shell(
        lambda tensor: {"values": tensor.values, "scale": tensor.scale},
        settle,
        lambda tensor: "FP3",
        lambda tensor: Around(tensor.values.detach(), tensor.scale.detach()),
    )
    yield
    SHELLS.pop(Around)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def layer(tmp_path: Path, registry: Registry) -> torch.nn.Module:
    views = registry.open(
        write_weights(tmp_path / "a.safetensors", {"values": VALUES, "scale": SCALE})
    ).views()
    module = torch.nn.Module()
    weight = Around(views["values"], views["scale"])
    module.register_parameter("weight", torch.nn.Parameter(weight, requires_grad=False))
    return module


def test_parts_come_from_the_file_and_go_back_to_it(layer: Any, registry: Registry) -> None:
    weight, begin = layer.weight, used()
    residency = residency_of(layer, registry)
    assert known(weight)
    assert bytes_of(weight) == 4096 + 64
    report = residency.load(CARD, ["weight"])
    assert report.bytes == 4096 + 64
    assert (weight.device, weight.values.device, weight.scale.device) == (CARD, CARD, CARD)
    assert layer.weight is weight
    assert residency.resident == ("weight",)
    assert torch.equal(weight.values.cpu(), VALUES)
    residency.unload()
    assert weight.device.type == "cpu"
    assert find(weight.values, registry) is not None
    assert find(weight.scale, registry) is not None
    assert used() == begin


def test_one_that_the_host_has_moved_is_the_hosts(layer: Any, registry: Registry) -> None:
    layer.weight.scale = layer.weight.scale.to(CARD)
    residency = residency_of(layer, registry)
    assert residency.load(CARD).skipped == ("weight",)
    assert residency.movable() == frozenset()
    assert left_to_host(residency.inventory() or ())
    assert layer.weight.values.device.type == "cpu"


def test_another_around_the_same_memory_stays_where_it_is(layer: Any, registry: Registry) -> None:
    kept = alike(layer.weight)
    residency_of(layer, registry).load(CARD)
    assert kept.device.type == "cpu"
    assert find(kept.values, registry) is not None  # type: ignore[attr-defined]


def test_a_model_is_what_it_was_built_as(layer: Any, registry: Registry) -> None:
    weight = layer.weight
    built = AsBuilt(layer)
    residency_of(layer, registry).load(CARD)
    layer.weight = torch.nn.Parameter(Around(VALUES.to(CARD), SCALE.to(CARD)), requires_grad=False)
    built.restore()
    assert layer.weight is weight
    assert weight.device.type == weight.scale.device.type == "cpu"
    assert find(weight.values, registry) is not None


def test_units_show_the_parts_and_the_form_has_a_name(layer: Any, registry: Registry) -> None:
    unit = Unit(0, "layer")
    assert unit.look(layer, lambda tensor: tensor.dtype)
    assert [slot.name for slot in unit.slots] == ["values of weight", "scale of weight"]
    for slot in unit.slots:
        slot.show(slot.home.to(CARD))
    assert layer.weight.device == CARD
    assert form_around(layer.weight.values) == "FP3"
    unit.go_home()
    assert layer.weight.device.type == "cpu"
    assert unit.is_at_home(layer)
    assert forms(residency_of(layer, registry).inventory() or ()) == "FP3"
