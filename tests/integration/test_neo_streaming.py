"""Forge Neo's own memory manager and layers on a device that PyTorch tells apart and that runs out of memory.

Models in single precision, in every quantisation that it packs into safetensors files, and in GGUF's.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.second_device.marks import needs_card

REPOSITORY = Path(__file__).resolve().parents[2]
EXTENSION = REPOSITORY / "extensions" / "flux-speedup"
SCRIPT = Path(__file__).with_name("streaming_on_neo.py")


def begun(neo_dir: Path, extension: str, weights: Path) -> subprocess.Popen[str]:
    python = neo_dir / "venv" / "bin" / "python"
    return subprocess.Popen(
        [str(python), str(SCRIPT), extension, str(REPOSITORY), str(weights)],
        cwd=neo_dir / "webui",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    said, errors = process.communicate(timeout=900)
    assert process.returncode == 0, said[-2000:] + errors[-4000:]
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


@needs_card()
@pytest.mark.parametrize("seed", range(2))
def test_random_loads_on_a_card_that_is_too_small(neo_dir: Path, tmp_path: Path, seed: int) -> None:
    both = [
        begun(neo_dir, extension, tmp_path / f"{name}{seed}")
        for name, extension in (("alone", ""), ("ours", str(EXTENSION)))
    ]
    alone, ours = (answer(process) for process in both)
    assert ours["failed"] == []
    assert ours["images"] == alone["images"]
    assert len(set(ours["images"])) > 6, "it would show nothing"
    assert min(ours[what] for what in ("streamed", "with loras", "packed", "gguf")) > 5
    assert (ours["errors"], ours["hooks"], ours["copies"]) == (0, 0, 0)
    assert ours["left"] == alone["left"]
