"""Forge Neo on what stands for a card: the same images as by itself, whatever fits, and nothing done for nothing.

One sequence of requests: LoRAs on, changed and off, switches there and back, quantised and GGUF checkpoints, and
others than Flux dev. Two starts, in each of which the card changes its size. (What is computed does not depend on
that, unless nothing fits whole: LoRAs are computed in another way then.)
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.forge import EXTENSION
from tests.integration.other_hosts import Neo, tiny_neo
from tests.integration.tiny_flux import COMMON

EVERYTHING_FITS, BESIDE, ONE_AT_A_TIME, NOT_EVEN_ONE = 2, 0.23, 0.1, 0.028
"""GiB of the card: 270 MB of models, of which the text encoders have 217, the transformer 33 and the VAE 21.
Of the text encoders 32 MB can stream, so that they find room beside the transformer."""
LORA_A, LORA_B = "<lora:tiny-lora-a:1>", "<lora:tiny-lora-b:0.7>"
ONE, TWO, FP8, GGUF = "tiny-one.safetensors", "tiny-two.safetensors", "tiny-fp8.safetensors", "tiny-gguf.gguf"
SD15, SCHNELL = "tiny-sd15.safetensors", "tiny-schnell.safetensors"
# Checkpoint, prompt, seed.
REQUESTS = {
    "first": (ONE, "a cat", 1),
    "again": (ONE, "a cat", 3),
    "lora": (ONE, f"a cat {LORA_A}", 1),
    "another with loras": (TWO, f"a cat {LORA_A} {LORA_B}", 2),
    "another": (TWO, "a cat", 1),
    "another again": (TWO, "a cat", 3),
    "sd15 with a lora": (SD15, "a cat <lora:tiny-lora-sd15:1>", 1),
    "sd15": (SD15, "a cat", 3),
    "fp8": (FP8, "a cat", 1),
    "fp8 with a lora": (FP8, f"a cat {LORA_A}", 1),
    "schnell with a lora": (SCHNELL, f"a cat {LORA_A}", 1),
    "back with others": (ONE, f"a cat <lora:tiny-lora-a:0.5> {LORA_B}", 1),
    "off": (ONE, "a cat", 1),
    "gguf": (GGUF, "a cat", 1),
    "fp8 again": (FP8, "a cat", 3),
    "gguf again": (GGUF, "a dog", 1),
    "schnell": (SCHNELL, "a cat", 2),
    "sd15 at last": (SD15, "a cat", 3),
    "a dog": (ONE, "a dog", 1),
}
# Where something does not fit: every checkpoint, those that were kept among them, LoRAs on, changed and off.
SHORT = (
    *("first", "lora", "another with loras", "sd15 with a lora", "fp8 with a lora", "schnell with a lora"),
    *("off", "gguf", "fp8 again", "sd15 at last", "a dog"),
)
ENCODED = ("first", "a dog", "lora")
# Of each checkpoint a request without LoRAs.
CLEAN = {checkpoint: what for what, (checkpoint, prompt, _) in REQUESTS.items() if "<lora" not in prompt}


class Sequence:
    """Images on one card, what each of them cost, and what was seen after some. `ours`: the extension is there."""

    def __init__(self, webui: Neo, requests: Iterable[str], ours: bool) -> None:
        self.images: dict[str, str] = {}
        self.bytes: dict[str, Any] = {}
        self.costs: dict[str, dict[str, int]] = {}
        self.weights: dict[str, Any] = {}
        self._webui = webui
        earlier = len(self._events()) if ours else 0
        self._seen = self._counts()
        for what in requests:
            self._image(what)
            if ours:
                self.weights[what] = webui.get("/probe/weights")
        if ours:
            found = self._events()
            self.events = found[: len(found) - earlier]
            self.said = webui.post("/flux-speedup/v1/drop", {"key": None})
            self.after = webui.get("/probe/memory")
            before = self.images["a dog"]
            self._image("a dog")
            self.again = (before, self.images["a dog"])

    def _image(self, what: str) -> None:
        checkpoint, prompt, seed = REQUESTS[what]
        settings: dict[str, Any] = {"sd_model_checkpoint": checkpoint}
        if checkpoint == SD15:
            settings["forge_additional_modules"] = []  # it has its own
        request = {**COMMON, "prompt": prompt, "seed": seed, "override_settings": settings}
        answer = self._webui.post("/sdapi/v1/txt2img", request)
        self.images[what] = hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest()
        self.bytes[what] = self._webui.get("/probe/bytes")
        before, self._seen = self._seen, self._counts()
        self.costs[what] = {name: count - before[name] for name, count in self._seen.items()}

    def _events(self) -> list[Any]:
        """The newest first."""
        found: list[Any] = self._webui.get("/flux-speedup/v1/stats?limit=1000")["events"]
        return found

    def unloads_per_image(self) -> float:
        return sum(each["kind"] == "unload" for each in self.events) / len(self.images)

    def _counts(self) -> dict[str, int]:
        found: dict[str, int] = self._webui.get("/probe/counts")
        return found


class Made:
    """`requests`: for each card (GiB); all by one start."""

    def __init__(
        self,
        neo_dir: Path,
        data: Path,
        requests: Mapping[float, Iterable[str]],
        extensions: dict[str, Path],
    ) -> None:
        self.on: dict[float, Sequence] = {}
        with tiny_neo(neo_dir, data, str(next(iter(requests))), extensions) as webui:
            for card, names in requests.items():
                webui.post("/probe/card", {"gib": card})
                self.on[card] = Sequence(webui, names, bool(extensions))
            if extensions:
                self.states = {
                    each["item"]: each["state"] for each in webui.get("/flux-speedup/v1/status")["outcomes"]
                }
            self.log = webui.log()

    def complaints(self) -> list[str]:
        words = ("falling back", "not kept", "failed", "is not streamed", "could not")
        return [
            line
            for line in self.log.splitlines()
            if "[flux-speedup]" in line
            and any(word in line for word in words)
            # Four are, besides the one in use.
            and "is not kept any longer (" not in line
        ]


def made(
    neo_dir: Path,
    folder: Path,
    requests: Iterable[str],
    where_not_all_fits: Iterable[str],
    encoded: Iterable[str],
) -> tuple[Made, Made]:
    """Without and with the extension."""
    alone = {EVERYTHING_FITS: requests, NOT_EVEN_ONE: where_not_all_fits}
    ours = {**alone, BESIDE: encoded, ONE_AT_A_TIME: where_not_all_fits}
    return (
        Made(neo_dir, folder / "alone", alone, {}),
        Made(neo_dir, folder / "ours", dict(sorted(ours.items(), reverse=True)), {"flux-speedup": EXTENSION}),
    )


@pytest.fixture(scope="module")
def both(neo_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Made]:
    return made(neo_dir, tmp_path_factory.mktemp("neo"), REQUESTS, SHORT, ENCODED)


@pytest.fixture
def fits(both: tuple[Made, Made]) -> tuple[Sequence, Sequence]:
    without, with_us = both
    return without.on[EVERYTHING_FITS], with_us.on[EVERYTHING_FITS]


def test_where_everything_fits_the_images_are_the_same(
    both: tuple[Made, Made], fits: tuple[Sequence, Sequence]
) -> None:
    without, with_us = fits
    assert with_us.images == without.images
    assert with_us.bytes == without.bytes
    assert with_us.images["first"] == with_us.images["off"], "the LoRA was not undone"
    assert len(set(with_us.images.values())) == len(REQUESTS) - 2
    assert both[1].complaints() == []
    for item in ("settings_file", "weights", "checkpoints", "needless_unloads"):
        assert both[1].states[item] == "applied", item


def test_text_encoders_and_transformer_come_before_they_are_asked_for_where_both_fit(
    both: tuple[Made, Made],
) -> None:
    for gib, sequence in both[1].on.items():
        ahead = {
            module: {what: seen[module]["ahead"] for what, seen in sequence.weights.items()}
            for module in ("JointTextEncoder", "KModel")
        }
        if gib != EVERYTHING_FITS:
            assert not any(size for sizes in ahead.values() for size in sizes.values())
            continue
        assert ahead["JointTextEncoder"]["first"] > 100_000_000
        # Built, and kept ones that are used again.
        least = {"first": 32, "fp8": 13, "schnell": 32, "fp8 again": 13, "a dog": 32}
        assert {what: ahead["KModel"][what] > mb * 1e6 for what, mb in least.items()} == dict.fromkeys(
            least, True
        )


def test_every_weight_is_on_the_card_by_us_and_the_large_ones_from_their_files(
    fits: tuple[Sequence, Sequence],
) -> None:
    # What is not quantised in fp8 files is cast, to what a CPU computes in.
    for what, least in (("first", 0.99), ("fp8", 0.7), ("gguf", 0.99)):
        weights = fits[1].weights[what]
        assert weights["KModel"]["resident"] == weights["KModel"]["parameters"] + 1, what
        arrived = weights["KModel"]["arrived"]
        assert arrived["file"] > least * sum(arrived.values()), what
        assert weights["JointTextEncoder"]["arrived"]["file"] > 100_000_000


def test_a_switch_back_builds_nothing_and_no_request_unloads_or_encodes_for_nothing(
    fits: tuple[Sequence, Sequence],
) -> None:
    without, with_us = fits
    built = [
        each["what"]
        for each in reversed(with_us.events)
        if each["kind"] == "checkpoint" and each["source"] == "file"
    ]
    assert built == [ONE, TWO, SD15, FP8, SCHNELL, GGUF]
    assert with_us.costs["another again"] == with_us.costs["again"] == {"encodings": 0, "unloads": 0}
    assert without.costs["another again"] == {"encodings": 1, "unloads": 1}, "it would show nothing"


def test_free_vram_takes_everything_off_and_the_next_image_is_the_same(
    fits: tuple[Sequence, Sequence],
) -> None:
    with_us = fits[1]
    assert "left the device" in with_us.said["done"]
    assert with_us.after["loaded"] == []
    assert with_us.after["views"] > 60_000_000
    assert with_us.again[0] == with_us.again[1]


def test_where_models_take_turns_the_images_are_the_same(
    both: tuple[Made, Made], fits: tuple[Sequence, Sequence]
) -> None:
    with_us = both[1].on[ONE_AT_A_TIME]
    alone = fits[0]
    assert different_where_models_take_turns(with_us, alone) == []
    assert with_us.unloads_per_image() > fits[1].unloads_per_image() + 1
    assert with_us.again[0] == with_us.again[1]


def test_where_text_encoders_find_room_beside_the_transformer_it_stays_and_the_images_are_the_same(
    both: tuple[Made, Made], fits: tuple[Sequence, Sequence]
) -> None:
    with_us = both[1].on[BESIDE]
    assert different_where_models_take_turns(with_us, fits[0]) == []
    encodings = [each for each in with_us.events if (each["kind"], each["what"]) == ("move", "text encoders")]
    assert sum("stream through a ring" in each["detail"] for each in encodings) == len(encodings) - 1 > 0
    assert ("unload", "transformer") not in {(each["kind"], each["what"]) for each in with_us.events}


def different_where_models_take_turns(with_us: Sequence, alone: Sequence) -> list[str]:
    """What is not as it is alone, where everything fits: images, and parts of models."""
    found = [what for what, image in with_us.images.items() if image != alone.images[what]]
    for what, parts in with_us.bytes.items():
        # What has left the card for the VAE is as it is in its file.
        clean = alone.bytes[CLEAN[REQUESTS[what][0]]]
        theirs = alone.bytes[what]
        found += [
            f"{part} of {what}" for part, sum_of in parts.items() if sum_of not in (theirs[part], clean[part])
        ]
    return found


def test_where_nothing_fits_whole_the_images_are_the_same(both: tuple[Made, Made]) -> None:
    without, with_us = (made.on[NOT_EVEN_ONE] for made in both)
    assert "loaded partially" in both[1].log
    assert with_us.images == without.images
    assert with_us.bytes == without.bytes
    assert with_us.again[0] == with_us.again[1]
