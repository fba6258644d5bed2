"""The memory managers and layers of Forge Neo and reForge on a device that is too small.

Models in single precision; on reForge in half, too, on Forge Neo in every quantisation that it packs into
safetensors files, and in GGUF's. LoRAs on, changed and off, loads and unloads in part, loads and passes that fail;
another model for the same steps, as a ControlNet, and what takes room without the manager, as an upscaler.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
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
ANY_IN_PART = tuple(model for models in IN_PART.values() for model in models)
WHERE_TWO_FIT = 80
"""MiB of a card on which models come before they are asked for."""
# Bytes by which what streams is not what the manager counts: what is told of a packed weight's format, 32 bytes a
# layer, is not on the card; and biases of GGUF layers grow by 1 KiB when they are cast, at their first use. (The
# manager by itself is off by more: what it loads whole has the size that it had in its file.)
INEXACT = {"packed": 70 << 5, "small": 24 << 5, "gguf": 110 << 10, "encoder of gguf": 24 << 10}


Sequences = Sequence[tuple[int, int]]
"""Each its seed and the MiB of the card, 0 for the usual one."""


def begun(host: str, extension: str, weights: Path, sequences: Sequences) -> subprocess.Popen[str]:
    place = checkout(host)
    if place is None:
        pytest.skip(f"no {host} with its virtual environment at ~/{HOSTS[host][1]}")
    words = [str(SCRIPTS[host]), extension, str(REPOSITORY), str(weights), json.dumps(sequences)]
    return subprocess.Popen(
        [str(place / "venv" / "bin" / "python"), *words],
        cwd=place / HOSTS[host][0].folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str], sequences: Sequences) -> list[dict[str, Any]]:
    said, errors = process.communicate(timeout=900 * len(sequences))
    assert process.returncode == 0, said[-2000:] + errors[-4000:]
    found: list[dict[str, Any]] = json.loads(said.splitlines()[-1])
    return found


def both(host: str, folder: Path, sequences: Sequences) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What came of each sequence, alone and with ours, in two processes at once."""
    sides = (("alone", ""), ("ours", str(EXTENSION)))
    begins = [begun(host, extension, folder / name, sequences) for name, extension in sides]
    return list(zip(*(answer(process, sequences) for process in begins), strict=True))


@needs_card()
@pytest.mark.parametrize("host", SCRIPTS)
def test_random_loads_on_a_card_that_is_too_small(host: str, tmp_path: Path) -> None:
    """One sequence, on Forge Neo another one where two models fit; `./test --soak` plays more."""
    sequences = [(0, 0), *([(3, WHERE_TWO_FIT)] if host == "Forge Neo" else [])]
    found = both(host, tmp_path, sequences)
    for alone, ours in found:
        check(alone, ours)
    shows(host, [ours for _, ours in found])


def check(alone: dict[str, Any], ours: dict[str, Any]) -> None:
    """What came of one sequence is as without us. Raises AssertionError."""
    assert ours["failed"] == []
    images = zip(ours["images"], alone["images"], ours["lora is wrong"], alone["lora is wrong"], strict=True)
    for mine, theirs, wrong, wrong_alone in images:
        # Neo by itself forgets LoRAs that it computes at each use, or computes them twice.
        assert not wrong
        assert mine == theirs or wrong_alone
    for mine, theirs in zip(ours["merged"] + ours["passed"], alone["merged"] + alone["passed"], strict=True):
        (short, whole, _), (short_alone, whole_alone, _) = mine, theirs
        assert whole == whole_alone != ""
        # Where the host alone fails, or goes on without a LoRA for which there was no memory, ours need not.
        assert short == whole or short_alone != whole
        assert short in ("", whole) or short_alone not in ("", whole)
    in_part = [[one for one in side["loaded"] if one.startswith(ANY_IN_PART)] for side in (ours, alone)]
    assert in_part[0] == in_part[1]
    # What is run once a load streams where the host alone would push others out for it.
    assert ours["pushed"] == 0
    for mine, theirs in zip(ours["sizes"], alone["sizes"], strict=True):
        # What was emptied when others had to leave, who stay with ours, is to be emptied yet.
        assert mine.pop("empties its cache") >= theirs.pop("empties its cache")
        both_have = mine.keys() & theirs.keys()
        # Biases of GGUF layers are cast by the host at their first use: for good where they are not streamed.
        almost = pytest.approx({one: theirs[one] for one in both_have}, rel=0.006)
        assert {one: mine[one] for one in both_have} == almost
    for name, off in ours["books"].items():
        assert off <= max(INEXACT.get(name, 0), alone["books"][name]), name
    assert (ours["errors"], ours["hooks"], ours["copies"]) == (0, 0, 0)
    assert alone["errors"] == 0
    assert ours["left"] == alone["left"]
    assert ours["nobody's"] < 1 << 20  # a layer
    assert (ours.get("pinned", 0), ours.get("pinned views", 0)) == (0, 0)


def shows(host: str, ours: Sequence[dict[str, Any]]) -> None:
    """What the sequences are there for came up in them. Raises AssertionError."""

    def all_of(what: str) -> list[Any]:
        return [one for each in ours for one in each[what]]

    assert len(set(all_of("images"))) > 5
    in_part = all_of("streamed" if host == "Forge Neo" else "loaded")
    for model in IN_PART[host]:
        assert sum(one.startswith(model) for one in in_part) > 5, model
    assert sum(one.endswith("with a LoRA") for one in in_part) > 5
    assert any(short and refused for short, _, refused in all_of("merged")) or len(ours) < 10
    if host == "Forge Neo":
        assert any(short and refused for short, _, refused in all_of("passed")) or len(ours) < 10
        assert sum(each["beside"] for each in ours) > 1
        assert sum(each["ever pinned"] for each in ours) > 0
        for came in zip(*all_of("ahead"), strict=True):  # of text encoders, and of the transformer
            assert any(came)
