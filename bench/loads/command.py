"""How fast FLUX.1-dev's weights reach a GPU: this extension, the machine's plain copies, other loaders.

    python -m bench loads --into /path/with/35GB --peers       on a machine with a GPU
    python -m bench loads --into /tmp/flux --make tiny         without one, to see that it runs
    python -m bench loads --into /path/with/60GB --packed --cold       packed weights beside plain ones

Bars: warm load at most 1.12 times the plain copy, unload at most 0.05 s, T5 + CLIP at most 0.25 s, cold load within
5 % of the plain disk read; with packed weights at most 0.80 of the plain pinned copy, of the cold read, and of a
streamed step that waits for the bus. Seconds, GB = 10^9 bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from bench.flux import models
from bench.record import Record
from flux_speedup.weights.files.mapping import MAPPINGS
from flux_speedup.weights.transfer.staging import Arena

from . import ours, packed, peers, plain
from .timing import Timing, device_named


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--into", type=Path, required=True, metavar="DIR", help="for the files; those there are used again")
    add("--make", choices=("flux", "flux-fp8", "quarter", "tiny"), default="flux")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--repeats", type=int, default=5)
    add("--peers", action="store_true", help="time other loaders that are installed")
    add("--cold", action="store_true", help="loads from the disk too")
    add("--packed", action="store_true", help="packed weights beside plain ones: loads, and streamed steps")


def run(given: argparse.Namespace, record: Record) -> int:
    device = device_named(given.device)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "RAM standing for a card"
    record.about(settings={"device": gpu, "torch": torch.__version__, "models": given.make})
    timing = Timing(device, given.repeats, record)
    made = models.made(given.into, given.make, second=False)
    transformer = MAPPINGS.open(made.folder / "Stable-diffusion" / made.checkpoint)
    t5, clip, _ = (MAPPINGS.open(Path(path)) for path in made.modules)
    size, arena = ours.size_of(ours.module_of(transformer)), Arena()
    floor = plain.pinned_copy(timing, size)
    ours.warm(timing, "transformer", arena, transformer)
    if device.type == "cuda":
        ours.straight(timing, "transformer", arena, transformer)
    ours.warm(timing, "T5 + CLIP", arena, t5, clip)
    if given.peers:
        peers.peers(timing, transformer.path, size)
    if given.cold:
        ours.cold(timing, "transformer", arena, transformer)
    if given.packed:
        folder = given.into / "packed"
        packed.measured(timing, folder, arena, transformer, cold=given.cold, pinned=floor)
    return 0
