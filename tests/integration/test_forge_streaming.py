"""A real Forge on cards on which a model does not fit: the same images as where everything fits, error or not."""

from __future__ import annotations

import base64
import hashlib
import random
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, Forge
from tests.integration.test_forge_images import COMMON

PROBE = Path(__file__).resolve().parent / "streaming_probe"
# MB of the card, and of what is kept for inference. The transformer has 33 MB, the text encoders 160.
CARDS = {
    "nothing fits": (13, 4),
    "a part fits": (24, 4),
    "a unit too many": (37.5, 4),
    "encoders push": (180, 8),
}
LENGTH = 14
HIRES = {
    "enable_hr": True,
    "hr_scale": 1.5,
    "hr_upscaler": "Latent",
    "hr_additional_modules": ["Use same choices"],
    "denoising_strength": 0.7,
}


def operations() -> list[dict[str, Any] | str | int]:
    """Requests, unloads and errors (their seeds), the same in every run."""
    chance = random.Random(7)
    made: list[dict[str, Any] | str | int] = []
    for number in range(LENGTH):
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


def run(
    forge_dir: Path, data: Path, card: tuple[float, float] | None, *flags: str
) -> tuple[dict[int, str], dict[str, Any]]:
    options = tiny_flux.options(tiny_flux.write_all(data / "models"))
    extensions = {"001-streaming": PROBE}
    environ = {"PROBE_TINY": "1", "PROBE_DEVICE": "1", "PROBE_CARD_GIB": "8"}
    if card is not None:
        size, inference = card
        extensions["flux-speedup"] = EXTENSION
        environ |= {"STREAMING_CARD_MB": str(size), "PROBE_INFERENCE_MB": str(inference)}
    seen: dict[int, str] = {}
    with Forge(
        forge_dir,
        data,
        flags=("--nowebui", "--api", "--unet-in-bf16", *flags),
        extensions=extensions,
        options=options,
        environ=environ,
    ) as forge:
        for number, operation in enumerate(operations()):
            if isinstance(operation, int):
                if card is not None:
                    forge.post("/probe/raise", {"seed": operation})
            elif isinstance(operation, str):
                forge.post(operation)
            else:
                image = _image(forge, {**COMMON, **operation})
                # An error on purpose: asked for again, without one.
                seen[number] = image or _image(forge, {**COMMON, **operation})
        known: dict[str, Any] = {}
        if card is not None:
            known = {"lines": forge.our_lines(), "log": forge.log(), "state": forge.get("/probe/streaming")}
            known["requests"] = forge.get("/flux-speedup/v1/requests")["requests"]
            known["memory"] = forge.get("/flux-speedup/v1/machine")["memory"]
    return seen, known


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
    return run(forge_dir, tmp_path_factory.mktemp("alone"), None)[0]


@pytest.mark.parametrize("name", list(CARDS))
def test_every_image_is_the_same_whatever_streams(
    forge_dir: Path, tmp_path: Path, hosts_own: dict[int, str], name: str
) -> None:
    seen, known = run(forge_dir, tmp_path, CARDS[name])
    assert seen == hosts_own
    said = "\n".join(known["lines"])
    # Where encoders and transformer take turns as a whole, nothing has to stream.
    assert ("stream through a ring" in said) is (name != "encoders push")
    sampled = [one["steps"] for each in known["requests"] for one in each["passes"] if one["steps"]]
    if name in ("nothing fits", "a part fits"):
        assert sum(each["bytes"] for each in sampled) > 0
    assert all(each["waited"] is None or 0 <= each["waited"] <= each["seconds"] for each in sampled)
    for each in known["memory"]["streamed"]:
        assert min(each["coming"], each["ring"]) > 0
    assert "could not be streamed" not in said
    assert "moves it by itself" not in said
