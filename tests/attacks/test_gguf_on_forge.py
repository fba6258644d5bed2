"""GGUF weights on Forge's own classes: the same bytes on the card and the same answers, with us and without us.

The device is one that PyTorch tells apart from the CPU; what is done is in `gguf_on_forge.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.attacks.gguf_on_forge import KINDS, LAYERS
from tests.attacks.test_weights_on_forge import run_in_forge
from tests.second_device.marks import needs_card

# What a LoRA cannot be merged into: the host says so.
MERGED = ("Q4_0", "Q5_0", "Q8_0")
pytestmark = [needs_card, pytest.mark.forge]


@pytest.fixture(scope="module")
def found(forge_dir: Path) -> dict[str, dict[str, Any]]:
    return run_in_forge(forge_dir, "tests.attacks.gguf_on_forge")


@pytest.mark.parametrize("kind", KINDS)
def test_every_quantisation_is_forges_own_and_leaves_nothing_behind(
    found: dict[str, dict[str, Any]], kind: str
) -> None:
    seen = found[kind]
    assert "raised" not in seen, seen["raised"]
    cannot = [number for number, each in enumerate(seen["story alone"]) if each == "the host cannot"]
    assert bool(cannot) == (kind not in MERGED)
    # Nor can it where nothing is quantised; there ours does.
    ours = [None if n in cannot or n - 1 in cannot else each for n, each in enumerate(seen["story ours"])]
    assert ours == [None if each == "the host cannot" else each for each in seen["story alone"]]
    assert seen.get("host ours") == seen.get("host alone")
    assert seen["story used"] == 0
    # One that the host has begun to merge into stays its own, and it makes bf16 of what is not quantised.
    assert seen["story in file"] >= (0 if kind in ("F16", "F32") else LAYERS - (kind not in MERGED))


def test_nothing_is_written_into_a_mapped_file(found: dict[str, dict[str, Any]]) -> None:
    assert {name: seen for name, seen in found["read only"].items() if name.endswith("ours")} == {
        name: seen for name, seen in found["Q8_0"].items() if name.endswith("ours")
    }


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K"])
def test_what_does_not_fit_is_streamed_from_the_file(found: dict[str, dict[str, Any]], kind: str) -> None:
    seen = found[kind]
    assert seen["streams ours"] == seen["streams alone"]
    assert seen["streamed"] > 0
    assert seen["streams used"] == 0
