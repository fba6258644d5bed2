"""Forge Neo, reForge and A1111 as they really start: what they are said to be, and the images they make.

Forge Neo computes on the CPU here; reForge and A1111 on what stands for a card, and they switch there and back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration import sd15
from tests.integration.forge import EXTENSION, cloned
from tests.integration.other_hosts import HOSTS, checkout

FORGE = Path.home() / "stable-diffusion-webui-forge"
TOKENIZER = "backend/huggingface/runwayml/stable-diffusion-v1-5"
COMMON = {
    "steps": 1,
    "width": 64,
    "height": 64,
    "cfg_scale": 1,
    "sampler_name": "Euler",
    "scheduler": "Automatic",
}
# Seed, checkpoint and strength of the LoRA of every request.
ON_ONE = ((1, "one", 0.0), (1, "one", 1.0))
REQUESTS = {"Forge Neo": ON_ONE}
SWITCHING = (*ON_ONE, (1, "two", 0.5), (1, "one", 0.0))
CARDS = {
    "Forge Neo": {},
    "reForge": {"PROBE_CARD_GIB": "8"},
    "A1111": {"PROBE_CARD_OF_A1111": "1"},
}
# Without the flag its transformer is computed in another dtype than its file's, on a CPU.
FLAGS = {"reForge": ("--unet-in-fp16",)}
CLONED, WITH_PAGE = ("reForge", "A1111"), ("Forge Neo", "A1111")
NOT_THERE = {
    "Forge Neo": ("streams", "allocator"),
    "reForge": ("tier", "streams", "checkpoints", "needless_unloads"),
    "A1111": ("tier", "streams", "allocator", "checkpoints", "needless_unloads"),
}
LOADING = ("weights", "digest", "hash_wait", "read_ahead")


@pytest.fixture(scope="module", params=sorted(HOSTS))
def host(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if checkout(name) is None:
        pytest.skip(f"no {name} with its virtual environment at ~/{HOSTS[name][1]}")
    return name


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two checkpoints; gone afterwards, as they have 1 GB."""
    folder = tmp_path_factory.mktemp("sd15")
    sd15.another(folder / "two.safetensors", sd15.write(folder / "one.safetensors", 1, sd15.SMALL_UNET))
    yield folder
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
    """What one start came to. `ours`: the extension's folder, None without it."""

    def __init__(self, name: str, data: Path, models: Path, hub: Path, ours: Path | None) -> None:
        folder = data / "models" / "Stable-diffusion"
        folder.mkdir(parents=True)
        for file in models.iterdir():
            os.link(file, folder / file.name)
        sd15.lora(data / "models" / "Lora" / "small.safetensors", 3)
        kind, _ = HOSTS[name]
        place = checkout(name)
        assert place is not None
        page = ours is not None and name in WITH_PAGE
        more = [*([] if page else ["--nowebui"]), *FLAGS.get(name, ())]
        webui = kind(
            place,
            data,
            flags=("--api", "--enable-insecure-extension-access", *more),
            extensions={} if ours is None else {"flux-speedup": ours},
            environ={"HF_HOME": str(hub), "HF_HUB_OFFLINE": "1", **CARDS[name]},
            options={"sd_model_checkpoint": "one.safetensors", "live_previews_enable": False},
        )
        with webui:
            self.images = [self._image(webui, *each) for each in REQUESTS.get(name, SWITCHING)]
            if ours is not None:
                self._look(webui)
                self.page = webui.text("/config") if page else ""
                webui.post("/flux-speedup/v1/settings", {"read_ahead": "off"})
                self.chosen = self._saved()
                self.done = webui.post("/flux-speedup/v1/remove_traces", {"statistics": True})["done"]
                self.left = self._saved()
                self.folder_left = (data / "cache" / "flux-speedup").exists()
                self.afterwards = self._image(webui, *ON_ONE[1])
            self.log = webui.log()

    def _image(self, webui: Any, seed: int, checkpoint: str, lora: float) -> str:
        chosen = {"sd_model_checkpoint": f"{checkpoint}.safetensors"}
        prompt = f"a cat <lora:small:{lora}>" if lora else "a cat"
        request = {**COMMON, "prompt": prompt, "seed": seed, "override_settings": chosen}
        answer = webui.post("/sdapi/v1/txt2img", {**request, "override_settings_restore_afterwards": False})
        return hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest()

    def _look(self, webui: Any) -> None:
        self.status: Any = webui.get("/flux-speedup/v1/status")
        self.events: list[Any] = webui.get("/flux-speedup/v1/stats?limit=1000")["events"]
        self.models: list[Any] = webui.get("/flux-speedup/v1/models")
        self.weights: Any = webui.get("/probe/weights")
        self._file = webui.data / "config.json"

    def _saved(self) -> list[str]:
        return [key for key in json.loads(self._file.read_text()) if key.startswith("flux_speedup")]


@pytest.fixture(scope="module")
def with_us(host: str, models: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Started:
    ours = cloned(tmp_path_factory.mktemp("clone")) if host in CLONED else EXTENSION
    return Started(host, tmp_path_factory.mktemp("with"), models, hub, ours)


def test_it_is_known_by_name_and_by_what_it_computes_on(host: str, with_us: Started) -> None:
    assert with_us.status["host"] == host
    if host != "reForge":
        assert with_us.status["card"] == "cpu"
        assert with_us.status["tier_why"] == "no GPU: the WebUI runs on the CPU"


def test_no_item_fails_and_what_is_not_there_says_why(host: str, with_us: Started) -> None:
    found = {each["item"]: (each["state"], each["why"]) for each in with_us.status["outcomes"]}
    assert [item for item, (state, _) in found.items() if state == "failed"] == []
    for item in NOT_THERE[host]:
        assert found[item][0] == "skipped"
        assert "backend.memory_management" not in found[item][1]
    for item in ("fast_callbacks", "statistics", "requests", "attention_kernels", *LOADING):
        assert found[item][0] == "applied", found[item]
    for item in ("pruning", "garbage"):
        assert (found[item][0] == "applied") is (host == "Forge Neo")
    assert ("flux_speedup_tab" in with_us.page) is (host in WITH_PAGE)


def test_every_load_is_one_event(host: str, with_us: Started, models: Path) -> None:
    loads = [each for each in with_us.events if each["kind"] == "checkpoint"][::-1]
    wanted = ["one"] if host in REQUESTS else ["one", "two", "one"]
    assert [each["what"] for each in loads] == [f"{name}.safetensors" for name in wanted]
    assert {each["bytes"] for each in loads} == {(models / "one.safetensors").stat().st_size}
    assert [each["name"] for each in with_us.models] == ["one.safetensors"]


def test_no_load_waited_for_a_hash_and_reforges_weights_come_from_their_files(
    host: str, with_us: Started
) -> None:
    if host in REQUESTS:
        pytest.skip("Forge Neo has tests of its own")
    # That of the other one may have come while nobody waited for it.
    assert "Loading weights [hash still to come] from" in with_us.log
    if host == "reForge":
        transformer, text = with_us.weights["BaseModel"], with_us.weights["SD1ClipModel"]
        assert transformer["arrived"]["file"] > 0.99 * sum(transformer["arrived"].values())
        assert text["arrived"]["file"] > 100_000_000


def test_the_images_are_the_same_without_us(
    host: str, with_us: Started, models: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    without = Started(host, tmp_path_factory.mktemp("without"), models, hub, None)
    assert with_us.images == without.images
    assert len(set(with_us.images)) == (2 if host in REQUESTS else 3)


def test_removed_nothing_of_ours_is_left_and_the_image_is_the_same(host: str, with_us: Started) -> None:
    assert "flux_speedup_read_ahead" in with_us.chosen
    assert "flux_speedup_read_ahead" in with_us.done
    assert with_us.left == []
    assert not with_us.folder_left
    assert with_us.afterwards == with_us.images[1]
