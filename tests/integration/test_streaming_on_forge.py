"""Forge's own memory manager and layers on a device that PyTorch tells apart and that really runs out of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.second_device.marks import needs_card

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("streaming_on_forge.py")


def run(forge_dir: Path, *words: str) -> dict[str, Any]:
    venv = forge_dir / "venv"
    python = next(
        (p for p in (venv / "bin/python", venv / "Scripts/python.exe") if p.exists()), sys.executable
    )
    extension = REPOSITORY / "extensions" / "flux-speedup"
    command = [str(python), str(SCRIPT), str(extension), str(REPOSITORY), *words]
    answer = subprocess.run(command, cwd=forge_dir, capture_output=True, text=True, timeout=1800, check=False)
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-4000:]
    seen: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return seen


@needs_card()
# In 3 there is no RAM for merged copies, and files get registered meanwhile.
@pytest.mark.parametrize("seed", [0, 3])
def test_random_loads_on_a_card_that_is_too_small(forge_dir: Path, tmp_path: Path, seed: int) -> None:
    seen = run(forge_dir, str(tmp_path / f"weights{seed}"))
    assert seen["failed"] == []
    assert seen["runs"] > 10
    assert seen["streamed"] > 5
    assert (seen["wrong"], seen["errors"]) == (0, 0)
    assert seen["kept"] == 0 if seed % 2 else seen["kept"] > 0
    # Of the transformer leaves the card, for a text encoder, what that takes as it streams, and no more.
    assert all(left >= 0 for left in seen["least"])
    if not seed:
        alone = run(forge_dir, str(tmp_path / "alone"), "alone")
        # Prompt and negative prompt are computed in one batch where the host alone would do so; and what it would
        # keep on the card as a whole stays as a whole.
        for ours, hosts in zip(seen["batches"], alone["batches"], strict=True):
            assert ours[::2] == hosts[::2]
            assert all(own >= host for own, host in zip(ours[1::2], hosts[1::2], strict=True))
        assert {1, 2, False} == {each for found in alone["batches"] for each in found}
    if seed:
        assert seen["made_room"] > 0  # where merging ran out of memory
    assert (seen["registered"], seen["unregistered"]) == (bool(seed), 0)
    assert (seen["left"], seen["hooks"], seen["flags"], seen["home"]) == (0, 0, 0, True)
