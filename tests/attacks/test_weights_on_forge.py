"""Whatever happens to a model on the card, Forge's own classes and ours leave the right weights in the right place.

The device is one that PyTorch tells apart from the CPU; what is done is in `weights_on_forge.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.forge import BITSANDBYTES, has_bitsandbytes, python_of
from tests.second_device.marks import needs_card

REPOSITORY = Path(__file__).resolve().parents[2]
LAYERS = 6
RIGHT: dict[str, dict[str, Any]] = {
    "lora_then_less_room": {
        "first": 6, "all on the card": 6, "second": 6, "in part": True, "none": 6, "unloaded": 6, "used": 0,
    },
    "lora_in_part_then_all": {
        "first": 6, "unloaded": 6, "second": 6, "all on the card": 6, "used": 0,
    },
    "unload_with_a_lora_and_back": {"unloaded": 6, "used": 0, "again": 6, "both": 6},
    "file_touched_while_a_lora_goes": {
        "none": 6, "on the card": 6, "next": 6, "next on the card": 6, "none again": 6, "still on the card": 6,
    },
    "card_full_while_a_lora_changes": {
        "failed": "OutOfMemoryError", "next": 6, "on the card": 6, "none": 6, "still on the card": 6,
    },
    "script_moves_the_model_home": {"freed": True, "right": 6, "on the card": 6, "once": True},
    "script_moves_it_with_a_lora": {
        "other": 6, "on the card": 6, "none": 6, "still on the card": 6, "unloaded": 6,
    },
    "change_on_the_card_before_a_lora": {"merged": 6, "none": 6, "unloaded": 6},
    "change_on_the_card_over_a_lora": {"other": 6},
    "switched_off_with_a_lora_merged": {
        "clean": 6, "used": 0, "backup": 0, "next": 6, "on the card": 6, "none": 6,
    },
    "switched_off_with_nothing_known_to_the_host": {"clean": 6, "used": 0},
    "backup_is_the_clean_weights": {
        "in it": 6, "no copies": True, "other": 6, "on the card": 6, "none": 6, "unloaded": 6, "used": 0,
    },
    "lora_merged_and_on_the_fly_in_turns": {
        "clean": 6, "on the fly": 6, "on the card": 6, "both": 6, "merged": 6, "left": 0, "none": 6, "used": 0,
    },
    "somebody_else_writes_into_the_backup": {"right": 6, "on the card": 6, "unloaded": 6, "used": 0},
    "object_patch_goes_with_the_model": {
        "patched in": True, "on the card": 7, "home": True, "its own again": True,
    },
    "object_patch_over_a_merged_weight": {
        "others": 5, "its own": True, "back": True, "clean": 6, "next": 6, "on the card": 6,
    },
    "weight_with_two_names": {
        "merged": True, "other": True, "on the card": True, "one again": True, "used": 0,
    },
    "unload_on_a_full_card": {"right": 6, "used": 0, "allocations": 0, "still in their file": 5},
    "wrapped_before_us": {"calls": [1, 0], "merged": 6, "right": 6},
}  # fmt: skip


FORMS = ("Scene", "FourBit", "FourBitNested")
"""Which weights: plain ones, or NF4 with its scales as they are, or in 8 bits."""


@pytest.fixture(scope="module")
def all_found(forge_dir: Path) -> dict[str, dict[str, Any]]:
    """What came of every attack on every form that is possible here."""
    forms = FORMS if has_bitsandbytes(forge_dir) else FORMS[:1]
    return run_in_forge(forge_dir, "tests.attacks.weights_on_forge", *forms)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def found(all_found: dict[str, dict[str, Any]], form: str) -> dict[str, dict[str, Any]]:
    """What came of every attack on this form."""
    if form not in all_found:
        pytest.skip("no bitsandbytes here (./test installs it)")
    return all_found[form]


def run_in_forge(forge_dir: Path, *module: str) -> dict[str, dict[str, Any]]:
    """What a module of ours prints, in one process of Forge's own environment."""
    python = python_of(forge_dir)
    if python is None:
        pytest.skip(f"{forge_dir} has no environment of its own")
    own = REPOSITORY / "extensions" / "flux-speedup"
    places = [forge_dir, forge_dir / "packages_3rdparty", REPOSITORY, own, BITSANDBYTES]
    # One thread: there are more tests than cores.
    environ = {"TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), "-B", "-m", *module],
        cwd=forge_dir,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), **environ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return answer


@needs_card
@pytest.mark.forge
@pytest.mark.parametrize("name", list(RIGHT))
def test_weights_are_right_and_where_they_belong(
    found: dict[str, dict[str, Any]], form: str, name: str
) -> None:
    if name in found or form == "Scene":
        assert found[name] == RIGHT[name], found[name].get("raised")


@needs_card
@pytest.mark.forge
def test_every_attack_is_judged(found: dict[str, dict[str, Any]], form: str) -> None:
    assert set(RIGHT) - set(found) == (set() if form == "Scene" else {"wrapped_before_us"})
    assert set(found) <= set(RIGHT)
