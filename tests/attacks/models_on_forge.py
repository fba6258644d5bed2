"""Checkpoints of every kind and form through Forge's own loader, engines and memory manager, alone and with us.

Runs in Forge's environment on the second device: `test_models_on_forge.py` starts it and judges what it prints.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from flux_speedup.ram import NOTHING
from flux_speedup.weights.first_kernels import Shapes, use_once
from tests.attacks import kinds_of_models as kinds
from tests.attacks.files_of_models import CHECKPOINTS, write_all
from tests.attacks.forge_scene import on_card
from tests.attacks.operations import Operations
from tests.attacks.session_on_forge import GIB, Session
from tests.second_device import CARD, taken, used

DECODED, ROOMS = "Flux", (50, 60)
"""MB: of the transformer, the VAE and an image that is decoded not all fit together there, or only just."""


def start(folder: Path, names: list[str], card: torch.device = CARD) -> Any:
    """Forge without its page, believing in a card; its memory manager. Only of the second device it knows what
    is taken."""
    sys.argv = [sys.argv[0], "--always-cpu", "--skip-torch-cuda-test", "--data-dir", str(folder)]
    (folder / "models" / "Stable-diffusion").mkdir(parents=True)
    from modules_forge.initialization import initialize_forge

    initialize_forge()
    from modules import shared_init

    shared_init.initialize()
    from modules import processing  # noqa: F401 - it imports the rest in an order that works
    from modules.shared import opts

    opts.data["sd3_enable_t5"] = False  # as narrow as it is here, nothing could be done with it
    from backend import memory_management as manager

    manager.room, manager.vram_state = GIB, manager.VRAMState.NORMAL_VRAM
    manager.current_inference_memory = 0
    manager.should_use_fp16 = manager.should_use_bf16 = lambda *_, **__: True  # as on cards of these years
    manager.get_torch_device = manager.text_encoder_device = lambda: card
    manager.is_device_cpu = lambda device: device == manager.cpu

    def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
        free = manager.room - (taken() if dev == CARD else 0)
        return (free, free) if torch_free_too else free

    manager.get_free_memory = get_free_memory
    manager.soft_empty_cache = lambda force=False: None
    kinds.shrink()
    if any(CHECKPOINTS[name].four_bit for name in names):
        from backend.operations_bnb import ForgeParams4bit

        ForgeParams4bit.cuda = on_card
    return manager


@contextlib.contextmanager
def ours(manager: Any, events: list[Any]) -> Iterator[Any]:
    """Everything that we do in a Forge to models' weights, as its room puts it together."""
    from flux_speedup.hosts.forge import need, split_models, splits, streamed
    from flux_speedup.hosts.forge.webui import Forge
    from flux_speedup.patching.change import Declined, apply_all
    from flux_speedup.weights.residency import signature
    from flux_speedup.weights.streaming import split, timeline
    from flux_speedup.weights.transfer.lane import LANES, PlainLane

    LANES.setdefault(CARD.type, PlainLane)
    need.KINDS, need.QUIET, need.OURS, split_models.LEAST_MODEL = (CARD.type,), 1 << 12, 1 << 12, 1 << 10
    signature._ROWS, streamed.RING, split.LEAST = (8,), 1 << 20, 1 << 10
    splits.timeline_for = timeline.PlainTimeline
    host = Forge(manager)
    changes = [*host.weight_changes(NOTHING)]
    changes += host.checkpoint_changes((32, 8 * GIB), events.append, lambda: frozenset({"weights"}))
    with contextlib.suppress(Declined):  # where the models' device is none that they could stream to
        changes += host.streaming_changes(False)
    changes += host.timing_changes(events.append)
    undo = apply_all(changes)
    try:
        yield host
    finally:
        undo()


class Said(logging.Handler):
    """What the extension has logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def forms_of(host: Any) -> list[list[Any]]:
    """What the tab tells of the model in use."""
    (model,) = [each for each in host.inside().models() if each.where == "in use"]
    return [[use.component, use.form, use.way, use.bytes, use.why] for use in model.forms]


def kernels_beside(used_by_an_image: Operations) -> dict[str, Any]:
    """What an image of a Flux uses, and what of it is not used once before."""
    with Operations() as before:
        use_once(torch.device("cpu"), Shapes(64, 16, 256, 2, 128, 256, (64, 32), 8))
    missing = {name for name, _, _ in used_by_an_image.kernels - before.kernels}
    return {"used": len(used_by_an_image.kernels), "missing": sorted(missing)}


def main() -> None:
    names = sys.argv[1:] or list(CHECKPOINTS)
    found: dict[str, Any] = {name: {} for name in names}
    said = Said()
    logging.getLogger("flux_speedup").addHandler(said)
    logging.getLogger("flux_speedup").setLevel(logging.INFO)
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manager = start(folder, names)
        write_all(folder, names)
        base = used()
        alone = Session(manager, folder)
        at_once = [
            alone.at_once(DECODED, mb) for mb in ROOMS if DECODED in names
        ]  # first: none of these models is ours later
        for name in names:
            found[name]["alone"] = alone.story(name)
            found[name]["stayed alone"] = alone.stayed
            if name == "Flux":
                with Operations() as used_by_an_image:
                    alone.image(name)
                alone.unload()
                found["kernels"] = kernels_beside(used_by_an_image)
        found["after"] = {"used alone": used() - base, "at once alone": at_once}
        events: list[Any] = []
        with ours(manager, events) as host:
            session = Session(manager, folder)
            for name in names:
                told, lines = len(events), len(said.lines)
                seen = found[name]
                try:
                    seen["ours"] = session.story(name)
                    seen["stayed"] = session.stayed
                    seen["forms"] = forms_of(host) if len(seen["ours"]) > 1 else []
                except Exception:
                    seen["ours"] = [traceback.format_exc()]
                seen["moves"] = [[e.what, e.source, e.detail] for e in events[told:] if e.kind == "move"]
                seen["said"] = said.lines[lines:]
            told = len(events)
            readable = [name for name in names if len(found[name]["alone"]) > 1]
            for name in readable:
                found[name]["back"] = session.image(name)
            session.unload()
            sources = [event.source for event in events[told:] if event.kind == "checkpoint"]
            found["after"] |= {"sources": sources, "readable": len(readable)}
            found["after"] |= {"used ours": used() - base}
            found["after"]["at once"] = [session.at_once(DECODED, mb) for mb in ROOMS if DECODED in names]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
