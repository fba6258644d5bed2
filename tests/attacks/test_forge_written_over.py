"""Weight files written over while a real Forge uses them: the same image, one from the new file, or an error."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, Forge
from tests.integration.tiny_flux import COMMON

LORA = "<lora:tiny-lora-a:1>"


@dataclass(frozen=True)
class Card:
    """A card of so many MB; 0: none."""

    name: str
    size: float


CARDS = (Card("all on the card", 80 * 1024), Card("swapping", 36), Card("no card", 0))


@dataclass
class Session:
    """A Forge whose files are written over. `kept`: where copies of them are."""

    forge: Forge
    files: dict[str, Path]
    kept: Path
    _said: int = 0

    def begin(self, leases: bool, card: Card) -> None:
        """Everything is built anew, from files that nobody had open."""
        self.forge.post("/probe/leases", {"there": leases})
        if card.size:
            self.forge.post("/probe/card", {"mb": card.size, "inference": 8})
        for name, path in self.files.items():
            another = path.with_suffix(".part")
            shutil.copy(self.kept / f"{name}.safetensors", another)
            another.replace(path)
        for checkpoint in ("two", "one", "two"):
            self.image("before", checkpoint)
        self._said = len(self.forge.our_lines())

    def lines(self) -> list[str]:
        """What the extension has said since the beginning."""
        return self.forge.our_lines()[self._said :]

    def image(self, prompt: str = "a cat", checkpoint: str = "one") -> str:
        settings = {"sd_model_checkpoint": f"tiny-{checkpoint}.safetensors"}
        request = {**COMMON, "prompt": prompt, "override_settings": settings}
        answer = self.forge.post("/sdapi/v1/txt2img", request)
        # Pixels alone: the text in the file tells a LoRA's time.
        picture = Image.open(io.BytesIO(base64.b64decode(answer["images"][0])))
        return hashlib.sha256(picture.tobytes()).hexdigest()

    def error(self, prompt: str = "a cat") -> str:
        with pytest.raises(urllib.error.HTTPError) as refused:
            self.image(prompt)
        with refused.value as answer:
            return str(json.load(answer))

    def write_over(self, name: str, how: str, other: Path | None = None) -> None:
        """By another process, in place."""
        target = str(self.files[name])
        source = str(other or self.kept / "two.safetensors")
        size = self.files[name].stat().st_size
        commands = {
            "all": ["cp", source, target],
            "half": [
                "dd",
                f"if={source}",
                f"of={target}",
                "bs=1M",
                f"count={size // 2 // 2**20}",
                "conv=notrunc",
            ],
            "start": ["dd", f"if={source}", f"of={target}", "bs=4096", "count=3"],
        }
        subprocess.run(commands[how], check=True, capture_output=True)

    def give_back(self, *names: str) -> None:
        for name in names:
            self.write_over(name, "all", self.kept / f"{name}.safetensors")

    def unload(self) -> None:
        self.forge.post("/sdapi/v1/unload-checkpoint")


@pytest.fixture(scope="module")
def webui(
    forge_dir: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Session]:
    """Forge on what stands for a card, of any size, or without one."""
    data = tmp_path_factory.mktemp("written")
    files = tiny_flux.write_all(data / "models")
    kept = data / "kept"
    kept.mkdir()
    for name, path in files.items():
        shutil.copy(path, kept / f"{name}.safetensors")
    environ = {"PROBE_TINY": "1"}
    if request.param:
        environ |= {"PROBE_DEVICE": "1", "PROBE_CARD_GIB": "80", "PROBE_INFERENCE_MB": "8"}
    forge = Forge(
        forge_dir,
        data,
        flags=("--nowebui", "--api", "--unet-in-bf16"),
        extensions={"flux-speedup": EXTENSION},
        options=tiny_flux.options(files),
        environ=environ,
    )
    with forge:
        yield Session(forge, files, kept)


on_cards = pytest.mark.parametrize(
    ("webui", "card"),
    [(card.size > 0, card) for card in CARDS],
    ids=[card.name for card in CARDS],
    indirect=["webui"],
    scope="module",
)


@pytest.mark.forge
@on_cards
def test_a_writer_waits_and_every_image_is_what_it_was(webui: Session, card: Card) -> None:
    session = webui
    session.begin(leases=True, card=card)
    first, with_lora = session.image(), session.image(f"a cat {LORA}")
    assert session.image() == first != with_lora
    for how in ("all", "half", "start"):
        for name in ("one", "t5"):
            session.write_over(name, how)
        assert session.image() == first
        assert session.image(f"a cat {LORA}") == with_lora
        session.unload()
        assert session.image(f"a cat {LORA}") == with_lora
        assert session.image() == first
        session.give_back("one", "t5")
        session.image(checkpoint="two")  # so that it is built anew, from the file
        assert session.image() == first
    assert any("old bytes are in RAM" in line for line in session.lines())
    assert not list(session.forge.data.rglob("*.corrupted"))


@pytest.mark.forge
@on_cards
def test_without_leases_no_image_is_made_of_what_is_left(webui: Session, card: Card) -> None:
    session = webui
    session.begin(leases=False, card=card)
    first, second = session.image(), session.image(checkpoint="two")
    assert session.image() == first

    session.write_over("one", "all")  # with the bytes of two
    assert session.image() in (first, second)
    session.unload()
    assert session.image() == second

    session.give_back("one")
    session.unload()
    assert session.image() == first

    session.write_over("one", "start")
    session.unload()
    said = session.error()
    assert "tiny-one" in said
    assert "Error" in said
    session.give_back("one")
    assert session.image() == first

    session.write_over("t5", "start")
    session.unload()
    assert "tiny-t5" in session.error("a dog")
    session.give_back("t5")
    assert session.image() == first
    assert not list(session.forge.data.rglob("*.corrupted"))
    assert any("built anew" in line for line in session.lines())


@pytest.mark.forge
@pytest.mark.parametrize("webui", [False], indirect=True, scope="module")
def test_a_write_into_one_checkpoints_encoder_shows_in_no_other(webui: Session) -> None:
    """Two checkpoints with the same text encoders, and somebody who writes into one's weights in RAM."""
    session = webui
    session.begin(leases=True, card=CARDS[-1])
    one, two = session.image(), session.image(checkpoint="two")
    session.forge.post("/probe/scribble")
    assert session.image("another prompt", checkpoint="two")
    scribbled = session.image(checkpoint="two")
    assert scribbled != two  # the host's own: the model is what somebody made of it
    assert session.image() == one
    assert session.image(checkpoint="two") == two  # built anew
    session.image()
    assert any("is not kept" in line and "wrote into" in line for line in session.lines())
