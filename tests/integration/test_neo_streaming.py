"""Forge Neo's own memory manager and layers on a device that PyTorch tells apart and that runs out of memory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.second_device.marks import needs_card

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("streaming_on_neo.py")


@needs_card()
@pytest.mark.parametrize("seed", range(3))
def test_random_loads_on_a_card_that_is_too_small(neo_dir: Path, tmp_path: Path, seed: int) -> None:
    python = neo_dir / "venv" / "bin" / "python"
    extension = REPOSITORY / "extensions" / "flux-speedup"
    words = [str(python), str(SCRIPT), str(extension), str(REPOSITORY), str(tmp_path / f"weights{seed}")]
    answer = subprocess.run(
        words,
        cwd=neo_dir / "webui",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-4000:]
    seen: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    assert seen["failed"] == []
    assert seen["runs"] > 10
    assert seen["streamed"] > 5
    assert (seen["wrong"], seen["errors"]) == (0, 0)
    assert (seen["left"], seen["hooks"], seen["views"]) == (0, 0, True)
