"""A real Forge whose files are registered while it starts: the first load goes straight, images stay the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, Forge
from tests.integration.tiny_flux import COMMON
from tests.waiting import eventually

PROBE = Path(__file__).resolve().parent / "direct_probe"
CARD = {"PROBE_TINY": "1", "PROBE_DEVICE": "1", "PROBE_CARD_GIB": "8"}
ONE, TWO = "tiny-one.safetensors", "tiny-two.safetensors"


def started(checkout: Path, data: Path, direct: str) -> Forge:
    return Forge(
        checkout,
        data,
        flags=("--nowebui", "--api", "--unet-in-bf16"),
        extensions={"001-direct": PROBE, "flux-speedup": EXTENSION},
        options=tiny_flux.options(tiny_flux.write_all(data / "models")),
        environ={**CARD, "FLUX_SPEEDUP_DIRECT": direct},
    )


def image(forge: Forge, checkpoint: str) -> str:
    chosen = {"sd_model_checkpoint": checkpoint}
    request = {**COMMON, "prompt": "a cat", "seed": 3, "override_settings": chosen}
    return str(forge.post("/sdapi/v1/txt2img", request)["images"][0])


@pytest.mark.skipif(sys.platform != "linux", reason="files are registered on Linux only")
def test_the_first_load_goes_straight_and_images_are_the_same(forge_dir: Path, tmp_path: Path) -> None:
    with started(forge_dir, tmp_path / "auto", "auto") as forge:
        models = tmp_path / "auto" / "models"
        sizes = {path.name: path.stat().st_size for path in models.rglob("*.safetensors") if path.name != TWO}
        sizes = {name: size for name, size in sizes.items() if "lora" not in name}

        def state() -> dict[str, Any]:
            return dict(forge.get("/probe/direct"))

        assert eventually(lambda: state()["bytes"] == sum(sizes.values())), forge.our_lines()
        begin = state()
        assert begin["kept"] == len(begin["used"]) == len(sizes) == 4
        images = [image(forge, ONE)]
        assert eventually(lambda: state()["kept"] == 0)
        after = state()
        assert after["calls"] == begin["calls"], "nothing was registered anew"
        # The VAE's weights are no views of its file: it is let go.
        for name in (ONE, "tiny-t5.safetensors", "tiny-clip.safetensors"):
            assert after["used"][name] > begin["used"][name], name
            assert any(f"{name}: loads read it straight" in line for line in forge.our_lines())
        images += [image(forge, TWO), image(forge, ONE)]
        assert images[0] == images[2] != images[1]
        assert eventually(lambda: state()["weights"]["bytes"] > 0)
        before = state()["weights"]["straight"]
        assert [image(forge, TWO), image(forge, ONE)] == [images[1], images[0]]  # all of it comes once more
        assert state()["weights"]["straight"] > before
    with started(forge_dir, tmp_path / "off", "off") as forge:
        assert images[:2] == [image(forge, ONE), image(forge, TWO)]
        nothing = {"calls": 0, "bytes": 0, "kept": 0, "used": {}, "weights": {"bytes": 0, "straight": 0}}
        assert dict(forge.get("/probe/direct")) == nothing
