"""Weight files written over while a real Forge uses them: the same image, one from the new file, or an error."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, Forge
from tests.integration.test_forge_images import COMMON

LORA = "<lora:tiny-lora-a:1>"


@dataclass
class Session:
    forge: Forge
    files: dict[str, Path]
    kept: Path

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


def started(forge_dir: Path, data: Path, size: float) -> tuple[Forge, dict[str, Path], Path]:
    files = tiny_flux.write_all(data / "models")
    kept = data / "kept"
    kept.mkdir()
    for name, path in files.items():
        subprocess.run(["cp", str(path), str(kept / f"{name}.safetensors")], check=True)
    options = tiny_flux.options(files)
    environ = {"PROBE_TINY": "1"}
    if size:
        environ |= {"PROBE_DEVICE": "1", "PROBE_CARD_GIB": str(size), "PROBE_INFERENCE_MB": "8"}
    forge = Forge(
        forge_dir,
        data,
        flags=("--nowebui", "--api", "--unet-in-bf16"),
        extensions={"flux-speedup": EXTENSION},
        options=options,
        environ=environ,
    )
    return forge, files, kept


@pytest.fixture(params=[80, 36 / 1024, 0], ids=["all on the card", "swapping", "no card"])
def session(forge_dir: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Session]:
    forge, files, kept = started(forge_dir, tmp_path, request.param)
    with forge:
        yield Session(forge, files, kept)


@pytest.mark.forge
def test_a_writer_waits_and_every_image_is_what_it_was(session: Session) -> None:
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
    assert any("old bytes are in RAM" in line for line in session.forge.our_lines())
    assert not list(session.forge.data.rglob("*.corrupted"))


@pytest.mark.forge
def test_without_leases_no_image_is_made_of_what_is_left(session: Session) -> None:
    forge = session.forge
    forge.post("/probe/no-leases")
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
    assert not list(forge.data.rglob("*.corrupted"))
    assert any("built anew" in line for line in forge.our_lines())
