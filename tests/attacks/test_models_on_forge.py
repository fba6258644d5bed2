"""Every kind and form of checkpoint that Forge knows: the same bytes as without us, and which way they go.

The device is one that PyTorch tells apart from the CPU; what is done is in `models_on_forge.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.attacks.files_of_models import CHECKPOINTS
from tests.attacks.test_weights_on_forge import run_in_forge
from tests.integration.forge import has_bitsandbytes
from tests.second_device.marks import needs_card

# What Forge itself cannot load or compute with, and says so. Kontext it takes for Flux.
REFUSED = {"SD 3.5 medium", "Flux Fill", "NF4 without a state"}
# The form of most of the transformer's bytes, and the way they go.
FORMS = {
    "SD 1.5": ("fp16", "file"),
    "SD 2": ("fp16", "file"),
    "SDXL": ("fp16", "file"),
    "SD 3": ("fp16", "file"),
    "SD 3.5": ("fp16", "file"),
    "Chroma": ("bf16", "file"),
    "Flux": ("bf16", "file"),
    "Flux schnell": ("bf16", "file"),
    "Flux Kontext": ("bf16", "file"),
    "fp8 e4m3": ("fp8 e4m3", "file"),
    "fp8 e5m2, T5 in fp8": ("fp8 e5m2", "file"),
    "fp8 scaled": ("fp8 e4m3", "file"),
    "fp8 with NaNs": ("fp8 e4m3", "file"),
    "fp8 all in one": ("fp8 e4m3", "file"),
    "bf16, T5 in GGUF": ("bf16", "file"),
    "GGUF Q8_0": ("GGUF Q8_0", "file, made on the card"),
    "GGUF Q4_0, T5 in GGUF": ("GGUF Q4_0", "file, made on the card"),
    "NF4": ("NF4", "file"),
    "NF4 nested, T5 in GGUF": ("NF4", "file"),
}
pytestmark = [needs_card, pytest.mark.forge]


@pytest.fixture(scope="module")
def found(forge_dir: Path) -> dict[str, dict[str, Any]]:
    bits = has_bitsandbytes(forge_dir)
    names = [name for name, each in CHECKPOINTS.items() if bits or not each.four_bit]
    return run_in_forge(forge_dir, "tests.attacks.models_on_forge", *names)


@pytest.fixture
def seen(found: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    if name not in found:
        pytest.skip("no bitsandbytes here (./test installs it)")
    return found[name]


@pytest.mark.parametrize("name", list(CHECKPOINTS))
def test_what_is_computed_is_forges_own(seen: dict[str, Any], name: str) -> None:
    assert seen["ours"] == seen["alone"]
    assert (len(seen["alone"]) == 1) == (name in REFUSED)
    assert not [line for line in seen["said"] if "falling back" in line]
    if name not in REFUSED:
        assert seen["back"] == seen["alone"][0]
        whole, lora, again, *_ = seen["alone"]
        assert whole == again
        assert whole != lora or "NaN" in name, "all of it is NaN there, with a LoRA too"


@pytest.mark.parametrize("name", list(FORMS))
def test_a_part_of_the_transformer_leaves_where_others_need_room(seen: dict[str, Any], name: str) -> None:
    assert seen["stayed alone"] == [False, False], "nothing was tried"
    assert seen["stayed"] == [True, True]


@pytest.mark.parametrize("name", list(FORMS))
def test_it_is_told_which_form_it_has_and_which_way_it_goes(seen: dict[str, Any], name: str) -> None:
    transformer = [use for use in seen["forms"] if use[0] == "transformer"]
    _, form, way, size, _ = max(transformer, key=lambda use: use[3])
    assert (form, way) == FORMS[name]
    assert size > 0.8 * sum(use[3] for use in transformer), transformer
    assert not [use for use in seen["forms"] if use[2] == "WebUI"]
    line = next(detail for what, _, detail in seen["moves"] if what == "transformer")
    assert line.startswith(form)


def test_whatever_an_image_computes_with_is_used_once_before(found: dict[str, dict[str, Any]]) -> None:
    kernels = found["kernels"]
    assert kernels["used"] > 50
    # How a Forge computes attention where there is no GPU.
    assert set(kernels["missing"]) <= {"baddbmm", "bmm", "softmax"}


def test_all_are_kept_side_by_side_and_leave_nothing_on_the_card(found: dict[str, dict[str, Any]]) -> None:
    after = found["after"]
    assert after["sources"] == ["kept"] * after["readable"]
    assert after["used ours"] - after["used alone"] < 1 << 16


def test_as_many_images_are_decoded_at_once_as_forge_alone_would(found: dict[str, dict[str, Any]]) -> None:
    """It shows in their last bits."""
    after = found["after"]
    assert after["at once"] == after["at once alone"]
    assert {count for seen in after["at once"] for _, count in seen} == {1, 2, 3}
