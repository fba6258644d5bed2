"""Random sequences of requests to a real Forge, without and with streamed weights: the same bytes each time.

The device is one that PyTorch tells apart from the CPU, on a card of a size that lets everything stay, makes models
evict each other, or makes them fit only partly.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flux_speedup.weights.residency.placement import AHEAD
from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, REPOSITORY, Forge
from tests.integration.tiny_flux import COMMON
from tests.second_device.marks import needs_card

pytestmark = needs_card

SEEDS, LENGTH = range(4), 4
"""Of the sequences, and requests in each; `./test --soak` plays more of them."""


@dataclass(frozen=True)
class Card:
    """A card by its size and what is kept for inference, both in MB."""

    size: float
    inference: int


CARDS = {
    "large": Card(80 * 1024, 0),
    "normal": Card(8 * 1024, 1024),
    "evicting": Card(64, 8),
    "swapping": Card(36, 8),
}
LARGE = ("--flux-speedup-tier", "large")


def operations(seeds: Iterable[int]) -> list[dict[str, Any] | str]:
    """Requests and unloads, the same in every run."""
    made: list[dict[str, Any] | str] = []
    for seed in seeds:
        chance = random.Random(seed)
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


@dataclass
class Seen:
    """What came of the operations on one card, and what the extension tells of them."""

    hashes: list[str]
    weights: Any = None
    events: list[Any] = field(default_factory=list)
    log: str = ""

    def lines(self, *words: str) -> list[str]:
        return [line for line in self.log.splitlines() if any(word in line for word in words)]


def run(
    forge_dir: Path,
    data: Path,
    cards: Sequence[str],
    seeds: Iterable[int] = SEEDS,
    ours: bool = True,
    flags: Sequence[str] = (),
) -> dict[str, Seen]:
    """The operations on each of these cards, all by one start."""
    files = tiny_flux.write_all(data / "models")
    first = CARDS[cards[0]]
    environ = {"PROBE_TINY": "1", "PROBE_DEVICE": "second", "PROBE_CARD_GIB": str(first.size / 1024)}
    environ["PYTHONPATH"] = str(REPOSITORY)
    found = {}
    with Forge(
        forge_dir,
        data,
        flags=("--nowebui", "--api", "--unet-in-bf16", *flags),
        extensions={"flux-speedup": EXTENSION} if ours else {},
        options=tiny_flux.options(files, randn_source="CPU"),
        environ=environ,
    ) as forge:
        for name in cards:
            if name != cards[0]:
                forge.post("/probe/card", {"mb": CARDS[name].size, "inference": CARDS[name].inference})
            found[name] = _on(forge, files["one"], operations(seeds), ours)
    return found


def on_all(forge_dir: Path, data: Path, seeds: Iterable[int] = SEEDS) -> dict[str, Seen]:
    """With the extension on every card, by two starts, as a tier is chosen at the start."""
    large = run(forge_dir, data / "large", ["large"], seeds, flags=LARGE)
    return large | run(forge_dir, data / "others", [name for name in CARDS if name not in large], seeds)


def _on(forge: Forge, one: Path, asked: Sequence[dict[str, Any] | str], ours: bool) -> Seen:
    said, earlier = len(forge.log()), len(_events(forge)) if ours else 0
    seen = Seen([])
    for operation in asked:
        if isinstance(operation, str):
            forge.post(operation)
        else:
            answer = forge.post("/sdapi/v1/txt2img", {**COMMON, **operation})
            seen.hashes.append(hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest())
    forge.post("/sdapi/v1/unload-checkpoint")  # what stands behind weights shows where none is merged
    seen.weights = forge.get("/probe/weights") if ours else None
    # What a save writes after an unload has the LoRA in it; it replaces a file that is in use.
    kept = one.read_bytes()
    lora = {"prompt": "a cat <lora:tiny-lora-a:1>", "override_settings": {"sd_model_checkpoint": one.name}}
    forge.post("/sdapi/v1/txt2img", {**COMMON, **lora})
    forge.post("/sdapi/v1/unload-checkpoint")
    forge.post("/probe/save", {"file": str(one)})
    seen.hashes.append(hashlib.sha256(one.read_bytes()).hexdigest())
    if ours:
        found = _events(forge)
        seen.events, seen.log = found[: len(found) - earlier], forge.log()[said:]
    another = one.with_suffix(".part")
    another.write_bytes(kept)
    another.replace(one)
    return seen


def _events(forge: Forge) -> list[Any]:
    """The newest first."""
    found: list[Any] = forge.get("/flux-speedup/v1/stats?limit=1000")["events"]
    assert len(found) < 1000
    return found


@pytest.fixture(scope="module")
def hosts_own(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What Forge alone answers; where its weights are does not change it."""
    return run(forge_dir, tmp_path_factory.mktemp("without"), ["normal"], ours=False)["normal"].hashes


@pytest.fixture(scope="module")
def on_cards(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    return on_all(forge_dir, tmp_path_factory.mktemp("cards"))


@pytest.mark.parametrize("name", list(CARDS))
def test_every_image_of_random_sequences_is_the_same(
    on_cards: dict[str, Seen], hosts_own: list[str], name: str
) -> None:
    seen = on_cards[name]
    assert seen.hashes == hosts_own
    assert [line for line in seen.lines("falling back", "failed") if line.startswith("[flux-speedup]")] == []
    moves = [event for event in seen.events if event["kind"] == "move" and event["what"] == "transformer"]
    assert any("file" in event["detail"] for event in moves)
    # Where everything fits both are on their way from the beginning, and nowhere else.
    for what in ("text encoders", "transformer"):
        moved = [event["detail"] for event in seen.events if (event["kind"], event["what"]) == ("move", what)]
        assert any(AHEAD in detail for detail in moved) is (name in ("large", "normal"))
    if name == "swapping":
        assert seen.lines("Swap Loaded")
        return
    transformer = seen.weights["KModel"]
    assert transformer["backings"]["file"] > 0.9 * sum(transformer["backings"].values())
    assert transformer["backup"] == 0
    # The host itself makes an embedding of the text encoders fp32.
    assert [line for line in seen.lines("were changed on the device") if "text encoders" not in line] == []
    if name == "evicting":
        assert any(event["kind"] == "unload" for event in seen.events)
