"""Random sequences of requests to a real Forge, without and with streamed weights: the same bytes each time.

The device is one that PyTorch tells apart from the CPU, on a card of a size that lets everything stay, makes models
evict each other, or makes them fit only partly.
"""

from __future__ import annotations

import base64
import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flux_speedup.weights.residency.placement import WHILE_ENCODING
from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, REPOSITORY, Forge
from tests.integration.test_forge_images import COMMON
from tests.second_device.marks import needs_card

pytestmark = needs_card

SEQUENCES, LENGTH = 10, 4
GIB_OF_MB = 1 / 1024


@dataclass(frozen=True)
class Card:
    """A card by its size and what is kept for inference, both in MB, and the flags Forge is started with."""

    size: float
    inference: int
    flags: tuple[str, ...] = ()


CARDS = {
    "large": Card(80 * 1024, 0, ("--flux-speedup-tier", "large")),
    "evicting": Card(64, 8),
    "swapping": Card(36, 8),
    "normal": Card(8 * 1024, 1024),
}


def operations() -> list[dict[str, Any] | str]:
    """Requests and unloads, the same in every run."""
    made: list[dict[str, Any] | str] = []
    for sequence in range(SEQUENCES):
        chance = random.Random(sequence)
        for _ in range(LENGTH):
            loras = chance.sample(
                ["<lora:tiny-lora-a:1>", "<lora:tiny-lora-b:0.7>", "<lora:tiny-lora-a:0.4>"],
                chance.choice([0, 0, 1, 2]),
            )
            request = {"prompt": " ".join(["a cat", *loras]), "seed": chance.randrange(3)}
            checkpoint = chance.choice(["tiny-one.safetensors"] * 3 + ["tiny-two.safetensors"])
            made.append({**request, "override_settings": {"sd_model_checkpoint": checkpoint}})
            if chance.random() < 0.3:
                made.append("/sdapi/v1/unload-checkpoint")
    return made


def run(
    forge_dir: Path, data: Path, card: Card, extensions: dict[str, Path]
) -> tuple[list[str], dict[str, Any]]:
    files = tiny_flux.write_all(data / "models")
    options = tiny_flux.options(files, randn_source="CPU")
    flags = card.flags if extensions else ()
    environ = {"PROBE_TINY": "1", "PROBE_DEVICE": "second", "PROBE_CARD_GIB": str(card.size * GIB_OF_MB)}
    environ["PYTHONPATH"] = str(REPOSITORY)
    if card.inference:
        environ["PROBE_INFERENCE_MB"] = str(card.inference)
    seen = []
    with Forge(
        forge_dir,
        data,
        flags=("--nowebui", "--api", "--unet-in-bf16", *flags),
        extensions=extensions,
        options=options,
        environ=environ,
    ) as forge:
        for operation in operations():
            if isinstance(operation, str):
                forge.post(operation)
            else:
                answer = forge.post("/sdapi/v1/txt2img", {**COMMON, **operation})
                seen.append(hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest())
        forge.post("/sdapi/v1/unload-checkpoint")  # what stands behind weights shows where none is merged
        known: dict[str, Any] = {"weights": forge.get("/probe/weights")} if extensions else {}
        # What a save writes after an unload has the LoRA in it; it replaces a file that is in use.
        forge.post("/sdapi/v1/txt2img", {**COMMON, "prompt": "a cat <lora:tiny-lora-a:1>"})
        forge.post("/sdapi/v1/unload-checkpoint")
        forge.post("/probe/save", {"file": str(files["one"])})
        seen.append(hashlib.sha256(files["one"].read_bytes()).hexdigest())
        if extensions:
            known["events"] = forge.get("/flux-speedup/v1/stats?limit=1000")["events"]
            known["lines"], known["log"] = forge.our_lines(), forge.log()
    return seen, known


@pytest.fixture(scope="module")
def hosts_own(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What Forge alone answers; where its weights are does not change it."""
    return run(forge_dir, tmp_path_factory.mktemp("without"), CARDS["normal"], {})[0]


@pytest.mark.parametrize("name", list(CARDS))
def test_every_image_of_ten_random_sequences_is_the_same(
    forge_dir: Path, tmp_path: Path, hosts_own: list[str], name: str
) -> None:
    with_us, known = run(forge_dir, tmp_path, CARDS[name], {"flux-speedup": EXTENSION})
    assert with_us == hosts_own
    assert not [line for line in known["lines"] if "falling back" in line or "failed" in line]
    moves = [event for event in known["events"] if event["kind"] == "move" and event["what"] == "transformer"]
    assert any("file" in event["detail"] for event in moves)
    # Where everything fits it is on its way while the text is encoded, and nowhere else.
    assert any(WHILE_ENCODING in event["detail"] for event in moves) is (name in ("large", "normal"))
    if name == "swapping":
        assert "Swap Loaded" in known["log"]
        return
    transformer = known["weights"]["KModel"]
    assert transformer["backings"]["file"] > 0.9 * sum(transformer["backings"].values())
    assert transformer["backup"] == 0
    changed = [line for line in known["log"].splitlines() if "were changed on the device" in line]
    # The host itself makes an embedding of the text encoders fp32.
    assert not [line for line in changed if "text encoders" not in line]
    if name == "evicting":
        assert any(event["kind"] == "unload" for event in known["events"])
