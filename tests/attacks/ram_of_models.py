"""How much RAM the weights of a model take once Forge has built it, in every form, alone and with us.

Runs in Forge's environment: `test_ram_of_models.py` starts it. Forge believes in a card, and nothing goes there:
what would stand for one here is RAM, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.flux import files, forms, shapes
from bench.flux.models import FORMS
from tests.attacks.models_on_forge import ours, start
from tests.attacks.session_on_forge import built

SIZES = (shapes.TINY, replace(shapes.TINY, hidden=shapes.REAL.hidden, depth=1, single_depth=1))
"""Both with the same text encoders and VAE; for four bits a weight, the second is deeper."""
DEEPER = replace(SIZES[1], single_depth=4)


def in_ram() -> int:
    """Bytes of this process that no file stands behind."""
    ctypes.CDLL(None).malloc_trim(0)
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines())
    return sum(int(line[1]) << 10 for line in lines if line[0] in ("Pss_Anon:", "Pss_Shmem:", "SwapPss:"))


def taken(manager: Any, file: Path, modules: list[Path], with_us: bool) -> int:
    """Bytes that are in RAM while this model is the WebUI's, above those that are there when it has gone."""
    from modules import sd_models

    with ours(manager, []) if with_us else contextlib.nullcontext():
        engine = built(file, modules)
        gc.collect()
        there = in_ram()
        del engine
    sd_models.model_data.sd_model, sd_models.model_data.forge_hash = None, ""
    gc.collect()
    return there - in_ram()


def measured(manager: Any, folder: Path, form: str, modules: list[Path]) -> dict[str, float]:
    """RAM for each byte of the file, and the bytes: of a large file, less what a small one takes."""
    suffix = ".gguf" if form.startswith("q") else ".safetensors"
    sizes = (SIZES[0], DEEPER if form in ("q4k", "nf4") else SIZES[1])
    paths = [
        files.write(folder / f"{number}{suffix}", FORMS[form](size), 1) for number, size in enumerate(sizes)
    ]
    small, large = (path.stat().st_size for path in paths)
    found: dict[str, float] = {"bytes": large}
    for who, with_us in (("alone", False), ("ours", True)):
        taken(manager, paths[0], modules, with_us)  # what is made once, and stays
        few, many = (taken(manager, path, modules, with_us) for path in paths)
        found[who] = (many - few) / (large - small)
    for path in paths:
        path.unlink()
    return found


def main() -> None:
    found, wanted = {}, sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manager = start(folder, [], torch.device("cuda"))
        text = {"t5": shapes.t5, "clip": shapes.clip, "vae": shapes.vae}
        modules = [
            files.write(folder / f"{name}.safetensors", forms.plain(listed(shapes.TINY), torch.float16), 2)
            for name, listed in text.items()
        ]
        for form in wanted:
            found[form] = measured(manager, folder, "" if form == "bf16" else form, modules)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
