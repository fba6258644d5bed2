"""Weights that a host makes something of on the device: made at each load, forgotten at each unload."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup.weights.errors import TransferError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import find
from flux_speedup.weights.residency.as_built import AsBuilt
from flux_speedup.weights.residency.forms import KINDS, Recipe, why_not
from tests import second_device
from tests.second_device import used
from tests.second_device.marks import needs_card
from tests.unit.weights.weight_files import raw_bytes, residency_of, write_weights

CARD = second_device.CARD
pytestmark = needs_card


class Packed(torch.nn.Parameter):
    """A host's class: on the device each byte is two halves, and `shape` is what it stands for."""

    opened = False
    scales: torch.Tensor
    is_foreign: bool

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        return torch.Size((2 * self.numel(),))


class PackedKind:
    foreign = "another's"

    def __init__(self) -> None:
        self.fails: Callable[[torch.Tensor], torch.Tensor] | None = None

    def recipe(self, tensor: Any) -> Recipe | None:
        if tensor.opened:
            return None
        shape = (tensor.numel(), 2)
        return Recipe(torch.uint8, shape, self.fails or opened, _mark(True), _mark(False))

    def owns(self, tensor: Any) -> bool:
        return not hasattr(tensor, "is_foreign")

    def companions(self, tensor: Any) -> Mapping[str, torch.Tensor]:
        return {"scales": tensor.scales}

    def merged(self, tensor: Any, merge: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        raise AssertionError("nothing is merged here")


def opened(raw: torch.Tensor) -> torch.Tensor:
    return torch.stack([raw & 15, raw >> 4], dim=-1)


def _mark(on: bool) -> Callable[[Any], None]:
    def mark(tensor: Any) -> None:
        tensor.opened = on

    return mark


@pytest.fixture
def kind() -> Iterator[PackedKind]:
    KINDS[Packed] = made = PackedKind()
    yield made
    del KINDS[Packed]


class Case:
    def __init__(self, folder: Path) -> None:
        self.bytes = torch.arange(200, dtype=torch.uint8)
        self.scales = torch.randn(7)
        file = write_weights(folder / "a.safetensors", {"packed": self.bytes, "scales": self.scales})
        self.registry = Registry()
        views = self.registry.open(file).views()
        self.module = torch.nn.Module()
        self.weight = Packed(views["packed"], requires_grad=False)
        self.weight.scales = views["scales"]
        self.module.weight = self.weight
        self.residency = residency_of(self.module, self.registry)

    def at_home(self) -> None:
        assert find(self.weight.data, self.registry) is not None
        assert find(self.weight.scales, self.registry) is not None
        assert not self.weight.opened
        assert raw_bytes(self.weight.data) == raw_bytes(self.bytes)
        assert self.residency.resident == ()


def test_what_is_made_comes_at_each_load_and_goes_with_its_companions(
    tmp_path: Path, kind: PackedKind
) -> None:
    case = Case(tmp_path)
    before = used()
    for names in (None, {"weight"}):
        assert case.residency.load(CARD, names).skipped == ()
        assert case.weight.opened
        assert (case.weight.device, case.weight.scales.device) == (CARD, CARD)
        assert torch.equal(case.weight.data.cpu(), opened(case.bytes))
        assert torch.equal(case.weight.scales.cpu(), case.scales)
        assert case.residency.unload(names).copied_back == ()
        case.at_home()
    assert used() == before


def test_what_somebody_changed_of_it_is_kept_as_it_is(tmp_path: Path, kind: PackedKind) -> None:
    case = Case(tmp_path)
    case.residency.load(CARD)
    case.weight.data[3] = 9
    changed = case.weight.data.cpu()
    assert case.residency.unload().copied_back == ("weight",)
    for _ in range(2):
        assert case.weight.opened
        assert torch.equal(case.weight.data.cpu(), changed)
        case.residency.load(CARD)


@pytest.mark.parametrize("made", [lambda raw: raw, lambda raw: raw.nonsense()])
def test_where_nothing_can_be_made_nothing_is_placed(
    tmp_path: Path, kind: PackedKind, made: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    case = Case(tmp_path)
    before, kind.fails = used(), made
    with pytest.raises(TransferError, match="nothing was placed"):
        case.residency.load(CARD)
    case.at_home()
    assert used() == before


def test_a_kept_one_is_as_it_was_built(tmp_path: Path, kind: PackedKind) -> None:
    case = Case(tmp_path)
    built = AsBuilt(case.module)
    case.module.weight = Packed(opened(case.bytes), requires_grad=False)
    case.weight.opened, case.weight.scales.data = True, torch.zeros(1)
    built.restore()
    assert case.module.weight is case.weight
    case.at_home()


def test_an_unknown_class_is_left_alone(tmp_path: Path) -> None:
    case = Case(tmp_path)
    assert case.residency.load(CARD).skipped == ("weight",)
    case.at_home()


def test_one_that_is_the_hosts_is_left_alone_with_its_companions(tmp_path: Path, kind: PackedKind) -> None:
    case = Case(tmp_path)
    case.weight.is_foreign = True
    assert case.residency.load(CARD).skipped == ("weight",)
    assert why_not(case.weight) == "another's"
    case.at_home()
