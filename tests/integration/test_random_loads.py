"""The memory managers and layers of Forge Neo and reForge on a device that is too small.

Models in single precision; on reForge in half, too, on Forge Neo in every quantisation that it packs into
safetensors files, and in GGUF's. LoRAs on, changed and off, loads and unloads in part, loads and passes that fail;
another model for the same steps, as a ControlNet, and what takes room without the manager, as an upscaler.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.other_hosts import HOSTS, checkout
from tests.second_device.marks import needs_card

REPOSITORY = Path(__file__).resolve().parents[2]
EXTENSION = REPOSITORY / "extensions" / "flux-speedup"
SCRIPTS = {
    name: Path(__file__).with_name(file)
    for name, file in (("Forge Neo", "loads_on_neo.py"), ("reForge", "loads_on_reforge.py"))
}
IN_PART = {
    "Forge Neo": ("unet", "packed", "gguf"),
    "reForge": ("unet", "half"),
}


def begun(host: str, extension: str, weights: Path, sequences: int) -> subprocess.Popen[str]:
    place = checkout(host)
    if place is None:
        pytest.skip(f"no {host} with its virtual environment at ~/{HOSTS[host][1]}")
    words = [str(SCRIPTS[host]), extension, str(REPOSITORY), str(weights), str(sequences)]
    return subprocess.Popen(
        [str(place / "venv" / "bin" / "python"), *words],
        cwd=place / HOSTS[host][0].folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str], sequences: int) -> list[dict[str, Any]]:
    said, errors = process.communicate(timeout=900 * sequences)
    assert process.returncode == 0, said[-2000:] + errors[-4000:]
    found: list[dict[str, Any]] = json.loads(said.splitlines()[-1])
    return found


def both(host: str, folder: Path, sequences: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What came of each sequence, alone and with ours, in two processes at once."""
    sides = (("alone", ""), ("ours", str(EXTENSION)))
    begins = [begun(host, extension, folder / name, sequences) for name, extension in sides]
    return list(zip(*(answer(process, sequences) for process in begins), strict=True))


@needs_card()
@pytest.mark.parametrize("host", SCRIPTS)
def test_random_loads_on_a_card_that_is_too_small(host: str, tmp_path: Path) -> None:
    """One sequence; `./test --soak` plays more."""
    ((alone, ours),) = both(host, tmp_path, 1)
    check(host, alone, ours)


def check(host: str, alone: dict[str, Any], ours: dict[str, Any]) -> None:
    assert ours["failed"] == []
    assert ours["images"] == alone["images"]
    assert len(set(ours["images"])) > 5, "it would show nothing"
    in_part = ours["streamed" if host == "Forge Neo" else "loaded"]
    for model in IN_PART[host]:
        assert sum(one.startswith(model) for one in in_part) > 5, model
    assert sum(one.endswith("with a LoRA") for one in in_part) > 5
    # What is run once a load streams where the host alone would push others out for it.
    mine, theirs = (
        [one for one in side["loaded"] if one.startswith(IN_PART[host])] for side in (ours, alone)
    )
    assert mine == theirs
    assert ours["pushed"] == 0
    assert ours["beside"] > 1 or host != "Forge Neo", "it would show nothing"
    for mine, theirs in zip(ours["sizes"], alone["sizes"], strict=True):
        both_have = mine.keys() & theirs.keys()
        # Biases of GGUF layers are cast by the host at their first use: for good where they are not streamed.
        almost = pytest.approx({one: theirs[one] for one in both_have}, rel=0.006)
        assert {one: mine[one] for one in both_have} == almost
    # (Packed weights have another size in the host's books than on the card, without us as well.)
    assert all(off <= alone["books"][name] for name, off in ours["books"].items())
    assert {off for name, off in ours["books"].items() if name in ("unet", "half", "encoder")} == {0}
    assert (ours["errors"], ours["hooks"], ours["copies"]) == (0, 0, 0)
    assert alone["errors"] == 0
    assert ours["left"] == alone["left"]
    if host == "Forge Neo":
        assert ours["ever pinned"] > 0, "it would show nothing"
        assert (ours["pinned"], ours["pinned views"]) == (0, 0)
