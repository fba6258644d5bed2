"""The same requests to a real Forge without and with the extension give the same bytes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, Forge

REQUESTS: Sequence[dict[str, Any]] = (
    {"prompt": "a cat"},
    {"prompt": "a cat", "seed": 2},
    {"prompt": "a cat <lora:tiny-lora-a:1>"},
    {"prompt": "a cat <lora:tiny-lora-a:0.5> <lora:tiny-lora-b:1>"},
    {"prompt": "a cat"},
    {"prompt": "a cat", "override_settings": {"sd_model_checkpoint": "tiny-two.safetensors"}},
    {"prompt": "a dog"},
)
COMMON = {
    "seed": 1,
    "steps": 2,
    "width": 64,
    "height": 64,
    "cfg_scale": 1,
    "sampler_name": "Euler",
    "scheduler": "Simple",
}


def images(
    forge_dir: Path, data: Path, extensions: dict[str, Path]
) -> tuple[list[str], list[dict[str, Any]]]:
    """The hash of every image file Forge answers with, and the events the extension recorded."""
    options = tiny_flux.options(tiny_flux.write_all(data / "models"))
    hashes = []
    with Forge(
        forge_dir,
        data,
        flags=("--nowebui", "--api", "--unet-in-bf16"),
        extensions=extensions,
        options=options,
        environ={"PROBE_TINY": "1"},
    ) as forge:
        for request in REQUESTS:
            answer = forge.post("/sdapi/v1/txt2img", {**COMMON, **request})
            hashes.append(hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest())
        events = forge.get("/flux-speedup/v1/stats?limit=1000")["events"] if extensions else []
    return hashes, events


def test_every_image_file_is_the_same_and_every_load_is_recorded(forge_dir: Path, tmp_path: Path) -> None:
    without, _ = images(forge_dir, tmp_path / "without", {})
    with_us, events = images(forge_dir, tmp_path / "with", {"flux-speedup": EXTENSION})
    assert with_us == without
    assert with_us[0] == with_us[4], "the LoRA was not undone"
    assert len(set(with_us)) == 6
    checkpoints = [
        (event["what"], event["source"]) for event in reversed(events) if event["kind"] == "checkpoint"
    ]
    assert checkpoints == [
        ("tiny-one.safetensors", "file"),
        ("tiny-two.safetensors", "file"),
        ("tiny-one.safetensors", "kept"),
    ]
    size = sum(
        (tmp_path / "with" / "models" / file).stat().st_size
        for file in (
            "Stable-diffusion/tiny-one.safetensors",
            "text_encoder/tiny-t5.safetensors",
            "text_encoder/tiny-clip.safetensors",
            "VAE/tiny-vae.safetensors",
        )
    )
    built = [event for event in events if (event["kind"], event["source"]) == ("checkpoint", "file")]
    assert {event["bytes"] for event in built} == {size}
