"""What makes a real Forge unload its models and encode the prompt again, without and with the extension."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, Forge
from tests.integration.tiny_flux import COMMON
from tests.served import WAIT_MS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

INFERENCE_MB = 8
OTHER = {"override_settings": {"sd_model_checkpoint": "tiny-two.safetensors"}}
SAME_MEMORY = {"override_settings": {"forge_inference_memory": INFERENCE_MB}}


@contextmanager
def tiny_forge(forge_dir: Path, data: Path, extensions: dict[str, Path]) -> Iterator[Forge]:
    """Forge and its page, with tiny models on a card on which everything fits."""
    environ = {
        "PROBE_TINY": "1",
        "PROBE_DEVICE": "1",
        "PROBE_CARD_GIB": "8",
        "PROBE_INFERENCE_MB": str(INFERENCE_MB),
    }
    with Forge(
        forge_dir,
        data,
        flags=("--api", "--unet-in-bf16"),
        extensions=extensions,
        options=tiny_flux.options(tiny_flux.write_all(data / "models")),
        environ=environ,
    ) as forge:
        yield forge


class Session:
    """Requests to one Forge: the image files it answered with, and what each step cost."""

    def __init__(self, forge: Forge, ours: bool) -> None:
        self.forge = forge
        self.images: list[bytes] = []
        self._ours = ours
        self._seen = self._counts()

    def image(self, **request: Any) -> dict[str, int]:
        """One image; answers with how often what happened since the last call."""
        answer = self.forge.post("/sdapi/v1/txt2img", {**COMMON, "prompt": "a cat", **request})
        self.images.append(base64.b64decode(answer["images"][0]))
        before, self._seen = self._seen, self._counts()
        return {name: count - before[name] for name, count in self._seen.items()}

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.forge.get("/probe/counts")
        events = self.forge.get("/flux-speedup/v1/stats?limit=1000")["events"] if self._ours else []
        for kind in ("unload", "checkpoint"):
            counts[f"{kind} events"] = sum(event["kind"] == kind for event in events)
        return counts


NOTHING = {"encodings": 0, "unloads": 0, "unload events": 0, "checkpoint events": 0}


def load_page(browser: Browser, forge: Forge) -> None:
    context = browser.new_context()
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    # gradio's stream of answers ends when all that the page has asked for is answered, by whichever end is faster:
    # to the browser it is over, or has failed.
    ended: list[str] = []
    page.on("requestfinished", lambda request: ended.append(request.url))
    page.on("requestfailed", lambda request: ended.append(request.url))
    page.goto(forge.url)
    page.wait_for_selector("#tab_txt2img", state="attached")
    for _ in range(WAIT_MS // 50):
        if any("/queue/data" in url for url in ended):
            break
        page.wait_for_timeout(50)
    else:
        raise AssertionError("the page's questions are not answered")
    context.close()


def requests(session: Session, browser: Browser) -> dict[str, dict[str, int]]:
    """The same steps in every run, and what the image after each of them cost."""
    forge = session.forge
    cost = {"first": session.image(), "second": session.image()}
    load_page(browser, forge)
    cost["after a page load"] = session.image()
    forge.post("/sdapi/v1/options", {"forge_inference_memory": INFERENCE_MB})
    cost["a setting as it was"] = session.image()
    cost["the same by override"] = session.image(**SAME_MEMORY)
    cost["another checkpoint"] = session.image(**OTHER)
    cost["that one again"] = session.image(**OTHER)
    cost["and back"] = session.image()
    cost["and once more"] = session.image()
    forge.post("/probe/unload-flag")
    cost["asked by another extension"] = session.image()
    cost["another prompt"] = session.image(prompt="a dog")
    cost["a LoRA"] = session.image(prompt="a dog <lora:tiny-lora-a:1>")
    return cost


def digests(data: Path) -> dict[str, str]:
    """What the extension keeps, by file name."""
    file = data / "cache" / "flux-speedup" / "digests.json"
    files = json.loads(file.read_text())["files"] if file.exists() else {}
    return {Path(path).name: entry["sha256"] for path, entry in files.items()}


def are_right(data: Path, *names: str) -> bool:
    """Whether the digests of these files are kept, and all that are kept are the files' own."""
    files = {path.name: path for path in (data / "models").rglob("*.safetensors")}
    kept = digests(data)
    own = {name: hashlib.sha256(files[name].read_bytes()).hexdigest() for name in kept}
    return kept == own and kept.keys() >= set(names)


@dataclass
class Seen:
    """What each step cost, and the images. `fits_partly`: the same of a card on which models fit partly."""

    cost: dict[str, dict[str, int]]
    images: list[bytes]
    fits_partly: list[dict[str, int]] = field(default_factory=list)
    other_images: set[bytes] = field(default_factory=set)


@pytest.fixture(scope="module")
def without(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Seen:
    with tiny_forge(forge_dir, tmp_path_factory.mktemp("without"), {}) as forge:
        session = Session(forge, ours=False)
        return Seen(requests(session, browser), session.images)


@pytest.fixture(scope="module")
def with_us(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Seen:
    with tiny_forge(forge_dir, tmp_path_factory.mktemp("with"), {"flux-speedup": EXTENSION}) as forge:
        session = Session(forge, ours=True)
        # While it started, before anybody asked for an image; other checkpoints in RAM may be done as well.
        assert are_right(forge.data, "tiny-one.safetensors")
        seen = Seen(requests(session, browser), session.images)
        assert not [line for line in forge.our_lines() if "failed" in line]
        assert are_right(
            forge.data, "tiny-one.safetensors", "tiny-two.safetensors", "tiny-lora-a.safetensors"
        )
        forge.post("/probe/card", {"mb": 36, "inference": INFERENCE_MB})
        session = Session(forge, ours=True)
        forge.post("/sdapi/v1/options", {"forge_inference_memory": 8})
        session.image()
        for megabytes in (8, 10, 10):
            forge.post("/sdapi/v1/options", {"forge_inference_memory": megabytes})
            seen.fits_partly.append(session.image())
        seen.other_images = set(session.images)
        assert "Swap Loaded" in forge.log()
        return seen


def test_a_page_load_settings_as_they_were_and_overrides_cost_nothing(without: Seen, with_us: Seen) -> None:
    # The files, metadata included.
    assert with_us.images == without.images
    assert b"Model hash: " in with_us.images[0]
    assert b"Lora hashes: " in with_us.images[-1]
    free = ("second", "after a page load", "a setting as it was", "the same by override", "that one again")
    ours, alone = with_us.cost, without.cost
    assert {step: ours[step] for step in (*free, "and once more")} == dict.fromkeys(
        (*free, "and once more"), NOTHING
    )
    # What the host does without us: the test would show nothing if it did not.
    assert alone["second"]["encodings"] == 1
    for step in ("after a page load", "a setting as it was", "that one again"):
        assert alone[step]["unloads"] >= 1
        assert alone[step]["encodings"] == 1
    # Real changes do what they always did.
    for step in ("first", "another checkpoint", "and back"):
        assert ours[step]["encodings"] == 1
    assert ours["asked by another extension"]["unloads"] == 1
    assert ours["asked by another extension"]["encodings"] == 1
    assert (ours["another prompt"]["encodings"], ours["another prompt"]["unloads"]) == (1, 0)


def test_where_models_fit_partly_a_real_change_of_memory_unloads_once(with_us: Seen) -> None:
    assert [step["unloads"] for step in with_us.fits_partly] == [0, 1, 0]
    assert [step["encodings"] for step in with_us.fits_partly] == [0, 0, 0]
    assert len(with_us.other_images) == 1
