"""Forge Neo with its weights on a card, or what stands for one: the same bytes, and no copies in RAM."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.forge import EXTENSION
from tests.integration.other_hosts import tiny_neo
from tests.integration.test_forge_images import COMMON, REQUESTS

EVERYTHING_FITS, ONE_AT_A_TIME, NOT_EVEN_ONE = "2", "0.1", "0.028"
"""GiB of the card: 270 MB of models, of which the text encoders have 217, the transformer 33 and the VAE 21."""


class Made:
    """Images by one start, and what was seen after each of them."""

    def __init__(self, neo_dir: Path, data: Path, gib: str, extensions: dict[str, Path]) -> None:
        self.images: list[str] = []
        self.memory: list[Any] = []
        with tiny_neo(neo_dir, data, gib, extensions) as webui:
            for request in REQUESTS:
                answer = webui.post("/sdapi/v1/txt2img", {**COMMON, **request})
                self.images.append(hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest())
                if extensions:
                    self.memory.append(webui.get("/probe/memory"))
            if extensions:
                self.weights = webui.get("/probe/weights")
                self.events: Sequence[Any] = webui.get("/flux-speedup/v1/stats?limit=1000")["events"]
                self.said = webui.post("/flux-speedup/v1/drop", {"key": None})
                self.after = webui.get("/probe/memory")
                answer = webui.post("/sdapi/v1/txt2img", {**COMMON, **REQUESTS[-1]})
                self.again = hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest()
            self.log = webui.log()


@pytest.fixture(scope="module")
def fits(neo_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Made]:
    """Without and with the extension."""
    return tuple(  # type: ignore[return-value]
        Made(neo_dir, tmp_path_factory.mktemp("fits"), EVERYTHING_FITS, extensions)
        for extensions in ({}, {"flux-speedup": EXTENSION})
    )


def test_where_everything_fits_the_images_are_the_same(fits: tuple[Made, Made]) -> None:
    without, with_us = fits
    assert with_us.images == without.images
    assert with_us.images[0] == with_us.images[4], "the LoRA was not undone"
    assert len(set(with_us.images)) == 6


def test_every_weight_is_on_the_card_by_us_and_the_large_ones_from_their_files(
    fits: tuple[Made, Made],
) -> None:
    weights = fits[1].weights
    assert weights["KModel"]["resident"] == weights["KModel"]["parameters"] + 1
    arrived = weights["KModel"]["arrived"]
    assert arrived["file"] > 0.99 * sum(arrived.values())
    assert weights["JointTextEncoder"]["arrived"]["file"] > 100_000_000


def test_free_vram_takes_everything_off_and_the_next_image_is_the_same(fits: tuple[Made, Made]) -> None:
    with_us = fits[1]
    assert "left the device" in with_us.said["done"]
    assert with_us.after["loaded"] == []
    assert with_us.after["views"] > 60_000_000
    assert with_us.again == with_us.images[-1]


def test_where_models_take_turns_the_images_are_the_same(
    neo_dir: Path, fits: tuple[Made, Made], tmp_path: Path
) -> None:
    with_us = Made(neo_dir, tmp_path, ONE_AT_A_TIME, {"flux-speedup": EXTENSION})
    assert with_us.images == fits[0].images
    unloaded = {each["what"] for each in with_us.events if each["kind"] == "unload"}
    assert {"vae", "transformer"} <= unloaded
    assert with_us.again == with_us.images[-1]


def test_where_nothing_fits_whole_the_images_are_the_same(neo_dir: Path, tmp_path: Path) -> None:
    without = Made(neo_dir, tmp_path / "without", NOT_EVEN_ONE, {})
    with_us = Made(neo_dir, tmp_path / "with", NOT_EVEN_ONE, {"flux-speedup": EXTENSION})
    assert "loaded partially" in with_us.log
    assert with_us.images == without.images
    assert with_us.again == with_us.images[-1]
