"""Forge Neo, reForge and A1111 as they really start: what they are said to be, and the images they make."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration import sd15
from tests.integration.forge import EXTENSION
from tests.integration.other_hosts import HOSTS, checkout

FORGE = Path.home() / "stable-diffusion-webui-forge"
TOKENIZER = "backend/huggingface/runwayml/stable-diffusion-v1-5"
REQUEST = {
    "prompt": "a cat",
    "seed": 1,
    "steps": 1,
    "width": 64,
    "height": 64,
    "cfg_scale": 1,
    "sampler_name": "Euler",
    "scheduler": "Automatic",
}
NOT_THERE = ("tier", "streams", "allocator", "checkpoints", "needless_unloads")
AS_FORGE_LOADS = ("weights", "digest", "hash_wait", "read_ahead", "pruning")


@pytest.fixture(scope="module", params=sorted(HOSTS))
def host(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if checkout(name) is None:
        pytest.skip(f"no {name} with its virtual environment at ~/{HOSTS[name][1]}")
    return name


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Written once; gone afterwards, as it has 2 GB."""
    folder = tmp_path_factory.mktemp("sd15")
    yield sd15.write(folder / "sd15.safetensors", 1)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of Hugging Face with the tokenizer that A1111 asks for: every Forge carries its files."""
    source, home = FORGE / TOKENIZER, tmp_path_factory.mktemp("hub")
    if not source.is_dir():
        pytest.skip(f"no Forge checkout at {FORGE}: its tokenizer is needed")
    kept = home / "hub" / "models--openai--clip-vit-large-patch14"
    shutil.copytree(source / "tokenizer", kept / "snapshots" / "0")
    shutil.copy(source / "text_encoder" / "config.json", kept / "snapshots" / "0")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0")
    return home


class Started:
    """What one start came to."""

    def __init__(self, name: str, data: Path, model: Path, hub: Path, extensions: dict[str, Path]) -> None:
        models = data / "models" / "Stable-diffusion"
        models.mkdir(parents=True)
        os.link(model, models / model.name)
        kind, _ = HOSTS[name]
        place = checkout(name)
        assert place is not None
        environ = {"HF_HOME": str(hub), "HF_HUB_OFFLINE": "1"}
        options = {"sd_model_checkpoint": model.name, "live_previews_enable": False}
        with kind(place, data, extensions=extensions, environ=environ, options=options) as webui:
            answers = [webui.post("/sdapi/v1/txt2img", {**REQUEST, "seed": seed}) for seed in (1, 2)]
            self.images = [hashlib.sha256(base64.b64decode(a["images"][0])).hexdigest() for a in answers]
            self.status: Any = None
            if extensions:
                self.status = webui.get("/flux-speedup/v1/status")
                self.events: list[Any] = webui.get("/flux-speedup/v1/stats?limit=1000")["events"]
                self.models: list[Any] = webui.get("/flux-speedup/v1/models")
            self.log = webui.log()


@pytest.fixture(scope="module")
def with_us(host: str, model: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Started:
    return Started(host, tmp_path_factory.mktemp("with"), model, hub, {"flux-speedup": EXTENSION})


def test_it_is_known_by_name_and_by_what_it_computes_on(host: str, with_us: Started) -> None:
    assert with_us.status["host"] == host
    assert with_us.status["card"] == "cpu"
    assert with_us.status["tier_why"] == "no GPU: the WebUI runs on the CPU"


def test_no_item_fails_and_what_is_not_there_says_why(host: str, with_us: Started) -> None:
    found = {each["item"]: (each["state"], each["why"]) for each in with_us.status["outcomes"]}
    assert [item for item, (state, _) in found.items() if state == "failed"] == []
    for item in NOT_THERE:
        assert found[item][0] == "skipped"
        assert "backend.memory_management" not in found[item][1]
    for item in ("fast_callbacks", "statistics", "requests", "attention_kernels"):
        assert found[item][0] == "applied", found[item]
    for item in AS_FORGE_LOADS:
        assert (found[item][0] == "applied") is (host == "Forge Neo"), (item, found[item])


def test_its_one_load_is_one_event(host: str, with_us: Started, model: Path) -> None:
    loads = [each for each in with_us.events if each["kind"] == "checkpoint"]
    assert [(each["what"], each["bytes"]) for each in loads] == [(model.name, model.stat().st_size)]
    assert [each["name"] for each in with_us.models] == [model.name]


def test_the_images_are_the_same_without_us(
    host: str, with_us: Started, model: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    without = Started(host, tmp_path_factory.mktemp("without"), model, hub, {})
    assert with_us.images == without.images
    assert len(set(with_us.images)) == 2
