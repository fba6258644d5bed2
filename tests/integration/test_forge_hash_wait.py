"""No load of a real Forge waits for a hash, and every text and answer has it all the same."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, Forge
from tests.integration.tiny_flux import COMMON

ONE, TWO = "tiny-one.safetensors", "tiny-two.safetensors"
LORA_A, LORA_B = "<lora:tiny-lora-a:1>", "<lora:tiny-lora-b:0.7>"
PATTERN = "[model_hash]-[seed]-[prompt_words]"


def start(forge_dir: Path, data: Path, ours: bool = True, flags: Sequence[str] = ()) -> Forge:
    """Forge with the extension, whose hashing in the background is held up (see the probe), or without it."""
    options = tiny_flux.options(
        tiny_flux.write_all(data / "models"),
        ONE,
        samples_filename_pattern=PATTERN,
        save_txt=True,
        lora_add_hashes_to_infotext=True,
    )
    # One thread: with more, PyTorch on a busy CPU does not always come to the same last bit.
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environ = {"PROBE_TINY": "1", **one_thread, **({"PROBE_HASHES": "1"} if ours else {})}
    return Forge(
        forge_dir,
        data,
        flags=("--nowebui", "--api", "--unet-in-bf16", *flags),
        extensions={"flux-speedup": EXTENSION} if ours else {},
        options=options,
        environ=environ,
    )


def image(forge: Forge, prompt: str = "a cat", checkpoint: str = ONE, **more: Any) -> dict[str, Any]:
    """A request, and everything that tells of it afterwards."""
    settings = {"sd_model_checkpoint": checkpoint}
    asked = {**COMMON, "prompt": prompt, "override_settings": settings, "subseed": 5, **more}
    answer = forge.post("/sdapi/v1/txt2img", asked)
    info = json.loads(answer["info"])
    info.pop("job_timestamp")
    return {
        **info,
        "images": [hashlib.sha256(each.encode()).hexdigest() for each in answer["images"]],
        "params.txt": (forge.data / "params.txt").read_bytes(),
        "files": written(forge),
    }


def written(forge: Forge) -> dict[str, object]:
    """Names and texts of the files; pixels are compared where nothing is saved."""
    folder = forge.data / "outputs"
    found: dict[str, object] = {}
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        name = str(file.relative_to(folder))
        if file.suffix != ".png":
            found[name] = file.read_bytes()
            continue
        with Image.open(file) as opened:
            found[name] = opened.info["parameters"]
    return found


def told(forge: Forge) -> list[Any]:
    models = forge.get("/sdapi/v1/sd-models")
    named = [{**model, "filename": Path(model["filename"]).name} for model in models]
    return [named, forge.get("/sdapi/v1/options")["sd_checkpoint_hash"]]


def session(forge: Forge) -> list[Any]:
    """First uses of two checkpoints and two LoRAs, by all the ways that say something about them."""
    return [
        image(forge),
        told(forge),
        {**image(forge, save_images=True, checkpoint=TWO), "images": None},
        image(forge, f"a cat {LORA_A}"),
        told(forge),
        image(
            forge,
            f"a dog {LORA_A} {LORA_B}",
            TWO,
            enable_hr=True,
            hr_upscaler="Latent",
            hr_scale=2,
            hr_additional_modules=["Use same choices"],
            denoising_strength=0.5,
        ),
        {**image(forge, n_iter=2, batch_size=2, save_images=True), "images": None},
        image(forge, checkpoint=f"tiny-two [{sha256(forge, TWO)[:10]}]"),
        told(forge),
    ]


def sha256(forge: Forge, name: str) -> str:
    return hashlib.sha256((forge.data / "models" / "Stable-diffusion" / name).read_bytes()).hexdigest()


# Around a wait on a thread of ours: params.txt gets its hash there, where that takes longer than the image.
BESIDE = frozenset({"_bootstrap", "_bootstrap_inner", "run", "wait"})


def no_load_waited(forge: Forge) -> list[str]:
    """The files that somebody waited for: requests, none of them in a load and all of them where a text is made."""
    waited = forge.get("/probe/hashes")
    for each in waited:
        if not BESIDE.issuperset(each["in"]):
            assert not {"forge_model_reload", "load_networks", "sample"} & set(each["in"]), each
            assert {"create_infotext", "infotext", "save_image"} & set(each["in"]), each
    return list(dict.fromkeys(each["file"] for each in waited))


@pytest.mark.forge
def test_texts_wait_loads_do_not_and_every_byte_is_the_same(forge_dir: Path, tmp_path: Path) -> None:
    with start(forge_dir, tmp_path / "without", ours=False) as forge:
        alone = session(forge)
    with start(forge_dir, tmp_path / "with") as forge:
        ours = session(forge)
        waited = no_load_waited(forge)
        lines = forge.our_lines()
        applied = {item["item"]: item["state"] for item in forge.get("/flux-speedup/v1/status")["outcomes"]}
    for number, (one, other) in enumerate(zip(alone, ours, strict=True)):
        assert other == one, number
    assert waited == [ONE, TWO, "tiny-lora-a.safetensors", "tiny-lora-b.safetensors"]
    hash_one, hash_two = sha256(forge, ONE)[:10], sha256(forge, TWO)[:10]
    assert f"Model hash: {hash_one}" in ours[0]["infotexts"][0]
    assert [Path(name).name for name in ours[2]["files"]] == [
        f"00000-{hash_two}-1-a cat.{kind}" for kind in ("png", "txt")
    ]
    assert f"Model hash: {hash_one}".encode() in ours[0]["params.txt"]
    assert b"Lora hashes: " in ours[3]["params.txt"]
    assert applied["hash_wait"] == applied["lora_hash_wait"] == "applied", lines
    assert not [line for line in lines if "failed" in line or "no hash" in line], lines


@pytest.mark.forge
def test_never_waited_for_an_image_goes_without_and_the_next_one_has_it(
    forge_dir: Path, tmp_path: Path
) -> None:
    with start(forge_dir, tmp_path, flags=("--flux-speedup-hash-wait", "never")) as forge:
        first, second = image(forge, f"a cat {LORA_A}"), image(forge, f"a cat {LORA_A}", seed=2)
        models = forge.get("/sdapi/v1/sd-models")
        assert [model["hash"] for model in models] == [None, None]
        forge.post("/probe/hash-now")
        end = time.monotonic() + 20
        while not forge.get("/sdapi/v1/sd-models")[0]["hash"] and time.monotonic() < end:
            time.sleep(0.1)
        third = image(forge, f"a cat {LORA_A}", seed=3)
        lines = forge.our_lines()
        waited = forge.get("/probe/hashes")
    for each in (first, second):
        assert "Model hash" not in each["infotexts"][0]
        assert "Lora hashes" not in each["infotexts"][0]
        assert each["sd_model_hash"] is None
        assert "Lora hashes" not in each["extra_generation_params"]
        assert b"Model: tiny-one" in each["params.txt"]
        assert b"hash" not in each["params.txt"]
    assert f"Model hash: {sha256(forge, ONE)[:10]}" in third["infotexts"][0]
    assert b"Lora hashes: " in third["params.txt"]
    assert len([line for line in lines if ONE in line and "images go without it" in line]) == 1, lines
    assert waited == []
