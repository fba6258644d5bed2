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


@needs_card()
@pytest.mark.parametrize("seed", range(3))
def test_random_loads_on_a_card_that_is_too_small(forge_dir: Path, tmp_path: Path, seed: int) -> None:
    venv = forge_dir / "venv"
    python = next(
        (p for p in (venv / "bin/python", venv / "Scripts/python.exe") if p.exists()), sys.executable
    )
    extension = REPOSITORY / "extensions" / "flux-speedup"
    words = [str(python), str(SCRIPT), str(extension), str(REPOSITORY), str(tmp_path / f"weights{seed}")]
    answer = subprocess.run(words, cwd=forge_dir, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-4000:]
    seen: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    assert seen["failed"] == []
    assert seen["runs"] > 10
    assert seen["streamed"] > 5
    assert (seen["wrong"], seen["errors"]) == (0, 0)
    # Nothing of the transformer leaves the card for a text encoder.
    assert all(change >= 0 for change in seen["least"])
    assert (seen["left"], seen["hooks"], seen["flags"], seen["home"]) == (0, 0, 0, True)
