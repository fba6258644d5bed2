"""A real Forge on cards on which a model does not fit: the same images as where everything fits, error or not."""

from __future__ import annotations

import base64
import hashlib
import random
import urllib.error
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, Forge
from tests.integration.tiny_flux import COMMON

PROBE = Path(__file__).resolve().parent / "streaming_probe"
# MB of the card, and of what is kept for inference. The transformer has 33 MB, the text encoders 160.
CARDS = {
    "nothing fits": (13, 4),
    "a part fits": (24, 4),
    "a unit too many": (37.5, 4),
    "encoders push": (180, 8),
}
SEED, LENGTH = 7, 10
"""Of the requests; `./test --soak` makes more of them."""
Operations = list[dict[str, Any] | str | int]
HIRES = {
    "enable_hr": True,
    "hr_scale": 1.5,
    "hr_upscaler": "Latent",
    "hr_additional_modules": ["Use same choices"],
    "denoising_strength": 0.7,
}


def operations(seed: int, length: int) -> Operations:
    """Requests, unloads and errors (their seeds), the same in every run."""
    chance = random.Random(seed)
    made: Operations = []
    for number in range(length):
        loras = chance.sample(["<lora:tiny-lora-a:1>", "<lora:tiny-lora-b:0.7>"], chance.choice([0, 0, 1, 2]))
        checkpoint = chance.choice(["tiny-one.safetensors"] * 4 + ["tiny-two.safetensors"])
        request = {
            "prompt": " ".join([chance.choice(["a cat", "a dog"]), *loras]),
            "seed": chance.randrange(3),
        }
        if number and chance.random() < 0.4:
            made.append(number)
        if chance.random() < 0.2:
            made.append("/sdapi/v1/unload-checkpoint")
        made.append({**request, "override_settings": {"sd_model_checkpoint": checkpoint}})
        if chance.random() < 0.3:
            made.append({**request, **HIRES})
    return made


@dataclass
class Seen:
    """What came of the operations on one card: images by the operation's number, and what the extension tells."""

    images: dict[int, str]
    said: str = ""
    steps: list[Any] = field(default_factory=list)
    memory: Any = None


def run(
    forge_dir: Path, data: Path, cards: Sequence[str], seed: int = SEED, length: int = LENGTH
) -> dict[str, Seen]:
    """The operations on each of these cards, all by one start; no card: Forge alone, where everything fits."""
    asked = operations(seed, length)
    options = tiny_flux.options(tiny_flux.write_all(data / "models"))
    with Forge(
        forge_dir,
        data,
        flags=("--nowebui", "--api", "--unet-in-bf16"),
        extensions={"001-streaming": PROBE, **({"flux-speedup": EXTENSION} if cards else {})},
        options=options,
        environ={"PROBE_TINY": "1", "PROBE_DEVICE": "1", "PROBE_CARD_GIB": "8"},
    ) as forge:
        if not cards:
            return {"": Seen(_images(forge, asked, with_errors=False))}
        return {card: _on(forge, card, asked) for card in cards}


def _on(forge: Forge, card: str, asked: Operations) -> Seen:
    size, inference = CARDS[card]
    forge.post("/probe/streaming-card", {"mb": size, "inference": inference})
    lines, earlier = len(forge.our_lines()), _newest(forge)
    images = _images(forge, asked, with_errors=True)
    requests = forge.get("/flux-speedup/v1/requests?limit=1000")["requests"]
    passes = [one for each in requests if each["number"] > earlier for one in each["passes"]]
    return Seen(
        images,
        "\n".join(forge.our_lines()[lines:]),
        [one["steps"] for one in passes if one["steps"]],
        forge.get("/flux-speedup/v1/machine")["memory"],
    )


def _newest(forge: Forge) -> int:
    """The number of the last request."""
    return max(
        (each["number"] for each in forge.get("/flux-speedup/v1/requests?limit=1000")["requests"]), default=0
    )


def _images(forge: Forge, asked: Operations, with_errors: bool) -> dict[int, str]:
    seen: dict[int, str] = {}
    for number, operation in enumerate(asked):
        if isinstance(operation, int):
            if with_errors:
                forge.post("/probe/raise", {"seed": operation})
        elif isinstance(operation, str):
            forge.post(operation)
        else:
            image = _image(forge, {**COMMON, **operation})
            # An error on purpose: asked for again, without one.
            seen[number] = image or _image(forge, {**COMMON, **operation})
    return seen


def _image(forge: Forge, request: dict[str, Any]) -> str:
    try:
        answer = forge.post("/sdapi/v1/txt2img", request)
    except urllib.error.HTTPError as error:
        error.close()
        return ""
    return hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest()


@pytest.fixture(scope="module")
def hosts_own(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """What Forge alone answers where everything fits."""
    return run(forge_dir, tmp_path_factory.mktemp("alone"), ())[""].images


@pytest.fixture(scope="module")
def on_cards(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    return run(forge_dir, tmp_path_factory.mktemp("ours"), list(CARDS))


@pytest.mark.parametrize("name", list(CARDS))
def test_every_image_is_the_same_whatever_streams(
    on_cards: dict[str, Seen], hosts_own: dict[int, str], name: str
) -> None:
    seen = on_cards[name]
    assert seen.images == hosts_own
    # Where encoders and transformer take turns as a whole, nothing has to stream.
    assert ("stream through a ring" in seen.said) is (name != "encoders push")
    assert seen.steps
    if name in ("nothing fits", "a part fits"):
        assert sum(each["bytes"] for each in seen.steps) > 0
    assert all(each["waited"] is None or 0 <= each["waited"] <= each["seconds"] for each in seen.steps)
    for each in seen.memory["streamed"]:
        assert min(each["coming"], each["ring"]) > 0
    assert "could not be streamed" not in seen.said
    assert "moves it by itself" not in seen.said
