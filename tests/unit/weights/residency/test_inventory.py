"""What a model consists of: forms and ways, at home, on a device, and where somebody else moved it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.common.forms import arrival, as_it_is
from flux_speedup.stats.events import Event
from flux_speedup.weights.residency.inventory import Share, Way, form_of, forms, left_to_host
from tests import second_device
from tests.second_device.marks import needs_card
from tests.unit.weights.residency.test_forms import Case, Packed, PackedKind, kind
from tests.unit.weights.weight_files import residency_of

__all__ = ["kind"]
CARD = second_device.CARD
pytestmark = needs_card


def parameter(tensor: torch.Tensor, **more: Any) -> Any:
    made = torch.nn.Parameter(tensor, requires_grad=False)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_a_model_of_all_sorts_says_so_at_home_and_on_the_device(tmp_path: Path, kind: PackedKind) -> None:
    case = Case(tmp_path)
    case.module.norm = parameter(torch.zeros(3, dtype=torch.bfloat16))
    case.module.odd = parameter(torch.zeros(5, device="meta"))
    expected = (
        Share("uint8", Way.MADE, 1, 200),
        Share("uint8", Way.FILE, 1, 28),
        Share("fp32", Way.HOST, 1, 20, "without data"),
        Share("bf16", Way.RAM, 1, 6),
    )
    assert case.residency.inventory() == expected
    case.residency.load(CARD)
    assert case.residency.inventory() == expected
    assert (forms(expected), left_to_host(expected)) == (
        "uint8 + fp32 + bf16",
        "fp32 20 bytes by the WebUI (without data)",
    )
    case.module.norm = parameter(case.module.norm.data + 1)  # as a LoRA is merged
    merged = case.residency.inventory()[-1]
    assert merged == Share("bf16", Way.THERE, 1, 6, "with a LoRA in them, or put there by the WebUI")
    assert (
        left_to_host([merged])
        == "bf16 6 bytes on the card already (with a LoRA in them, or put there by the WebUI)"
    )


def test_a_class_nobody_told_us_of_is_the_webuis(tmp_path: Path) -> None:
    module = torch.nn.Module()
    module.weight = Packed(torch.zeros(8, dtype=torch.uint8), requires_grad=False)
    inventory = residency_of(module, Case(tmp_path).registry).inventory()
    assert inventory == (Share("uint8", Way.HOST, 1, 8, "Packed"),)


class Q4_K:
    pass


@pytest.mark.parametrize(
    ("tensor", "form"),
    [
        (parameter(torch.zeros(1, dtype=torch.float8_e4m3fn)), "fp8 e4m3"),
        (parameter(torch.zeros(1, dtype=torch.float8_e5m2)), "fp8 e5m2"),
        (parameter(torch.zeros(1, dtype=torch.float16)), "fp16"),
        (parameter(torch.zeros(1, dtype=torch.uint8), gguf_cls=Q4_K), "GGUF Q4_K"),
        (parameter(torch.zeros(1), gguf_cls=None), "fp32"),
        (parameter(torch.zeros(1, dtype=torch.uint8), quant_type="nf4", quant_state=None), "NF4"),
    ],
)
def test_forms_are_called_as_people_call_them(tensor: torch.Tensor, form: str) -> None:
    assert form_of(tensor) == form


def test_a_load_says_its_form_and_whether_it_was_ours() -> None:
    module = torch.nn.Linear(8, 8).half()
    placement: Any = SimpleNamespace(
        arrival=lambda _: SimpleNamespace(source="disk", sentence=lambda: "144 bytes file"),
        of=lambda _: SimpleNamespace(inventory=lambda: (Share("fp16", Way.FILE, 2, 144),)),
    )
    source, detail = arrival(placement, module, "144 bytes stream")
    assert (source, detail) == ("disk", "fp16; 144 bytes file; 144 bytes stream")
    assert Event("move", "x", 144, 1.0, source, "cuda", detail=detail).ours
    source, detail = arrival(None, module)
    assert (source, detail) == ("RAM", "by the WebUI itself: fp16")
    assert not Event("move", "x", 144, 1.0, source, "cuda", detail=detail).ours
    assert as_it_is(module) == (Share("fp16", Way.HOST, 2, 144),)
