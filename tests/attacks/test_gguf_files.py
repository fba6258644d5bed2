"""GGUF files: tensors are views of the file, Forge makes the same of them bit for bit, and loading costs no RAM."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, REPOSITORY, Forge, python_of
from tests.integration.tiny_flux import COMMON
from tests.second_device.marks import needs_card

INTEGRATION = Path(tiny_flux.__file__).parent
LORA = "<lora:tiny-lora-a:1>"
pytestmark = [needs_card, pytest.mark.forge]


KINDS = ("Q8_0", "Q4_0", "Q5_1", "BF16")


def quantised(forge_dir: Path, *wanted: tuple[Path, Path, str]) -> None:
    """Source, target and quantisation of each."""
    script = str(INTEGRATION / "tiny_gguf.py")
    words = [str(word) for each in wanted for word in each]
    subprocess.run([str(python_of(forge_dir)), script, *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def found(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What is made of a transformer in each of these quantisations."""
    folder = tmp_path_factory.mktemp("gguf")
    source = folder / "one.safetensors"
    tiny_flux.write(source, tiny_flux.transformer(), 1, torch.bfloat16)
    files = [folder / f"{kind}.gguf" for kind in KINDS]
    quantised(forge_dir, *((source, file, file.stem) for file in files))
    script = INTEGRATION / "gguf_parameters.py"
    words = [str(word) for word in (python_of(forge_dir), script, forge_dir, EXTENSION, *files)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_what_the_host_makes_and_costs_no_ram(
    found: dict[str, dict[str, Any]], kind: str
) -> None:
    seen = found[f"{kind}.gguf"]
    assert seen["same"]
    assert seen["baked"]
    assert seen["values"]
    assert seen["untouched"]
    assert seen["views"] == seen["tensors"]
    assert seen["hosts"] > 0.9
    assert seen["ours"] < 0.05


CHECKPOINTS = {"q8": "Q8_0", "q4": "Q4_0", "q51": "Q5_1"}


def images(
    forge_dir: Path, data: Path, extensions: dict[str, Path]
) -> tuple[list[str], str, dict[str, Any], list[str]]:
    """Three GGUF checkpoints and a plain one in turns, each with a GGUF T5: the pictures, the log, what stands
    behind the weights at the end, and which checkpoints were kept when they were asked for again."""
    files = tiny_flux.write_all(data / "models")
    folder = data / "models" / "Stable-diffusion"
    t5, files["t5"] = files["t5"], files["t5"].with_suffix(".gguf")
    checkpoints = [(files["one"], folder / f"tiny-{name}.gguf", kind) for name, kind in CHECKPOINTS.items()]
    quantised(forge_dir, *checkpoints, (t5, files["t5"], "Q8_0"))
    options = tiny_flux.options(files, "tiny-q8.gguf", randn_source="CPU")
    environ = {"PROBE_TINY": "1", "PROBE_DEVICE": "second", "PROBE_CARD_GIB": "8", "PROBE_INFERENCE_MB": "8"}
    environ |= {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    made: list[str] = []
    forge = Forge(
        forge_dir, data, flags=("--nowebui", "--api"), extensions=extensions, options=options, environ=environ
    )
    with forge:
        for checkpoint, prompt in (
            ("tiny-q8.gguf", "a cat"),
            ("tiny-q8.gguf", f"a cat {LORA}"),
            ("tiny-q8.gguf", f"a dog {LORA} <lora:tiny-lora-b:0.7>"),
            ("tiny-q8.gguf", "a cat"),
            ("tiny-q4.gguf", f"a cat {LORA}"),
            ("tiny-one.safetensors", f"a cat {LORA}"),
            ("tiny-q51.gguf", "a cat"),
            ("tiny-q4.gguf", "a cat"),
            ("tiny-q8.gguf", "a cat"),
        ):
            request = {**COMMON, "prompt": prompt, "override_settings": {"sd_model_checkpoint": checkpoint}}
            answer = forge.post("/sdapi/v1/txt2img", request)
            picture = Image.open(io.BytesIO(base64.b64decode(answer["images"][0])))
            made.append(hashlib.sha256(picture.tobytes()).hexdigest())
            if checkpoint == "tiny-q8.gguf":
                forge.post("/sdapi/v1/unload-checkpoint")
        if not extensions:
            return made, forge.log(), {}, []
        events = forge.get("/flux-speedup/v1/stats?limit=1000&kind=checkpoint")["events"]
        kept = [event["what"] for event in reversed(events) if event["source"] == "kept"]
        return made, forge.log(), forge.get("/probe/weights"), kept


def test_every_image_is_forges_own(forge_dir: Path, tmp_path: Path) -> None:
    theirs, _, _, _ = images(forge_dir, tmp_path / "without", {})
    ours, log, weights, kept = images(forge_dir, tmp_path / "with", {"flux-speedup": EXTENSION})
    assert ours == theirs
    assert len(set(ours)) == 7
    assert "falling back" not in log
    assert kept == ["tiny-q4.gguf", "tiny-q8.gguf"]
    transformer = weights["KModel"]["backings"]
    assert transformer["file"] > 0.9 * sum(transformer.values())
    assert transformer["none"] == 0
