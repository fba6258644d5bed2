"""The fault matrix on a real Forge: one call under the extension fails during a request; the next one is right."""

from __future__ import annotations

import random
import urllib.error
from pathlib import Path

from tests.faults import injector
from tests.integration import tiny_flux
from tests.integration.forge import Forge
from tests.soak.crowd import CHECKPOINTS, picture
from tests.soak.outcome import Outcome

# A LoRA comes, changes and goes, the checkpoint changes and comes back: every way of a weight.
KINDS = (
    (CHECKPOINTS[0], "a cat <lora:tiny-lora-a:1>"),
    (CHECKPOINTS[0], "a cat"),
    (CHECKPOINTS[1], "a cat <lora:tiny-lora-b:1>"),
    (CHECKPOINTS[0], "a dog"),
)
ENVIRON = {
    "PROBE_TINY": "1",
    "PROBE_DEVICE": "1",
    "PROBE_CARD_GIB": str(64 / 1024),
    "PROBE_INFERENCE_MB": "8",
}


def run(count: int, forge_dir: Path, folder: Path, seed: int = 0) -> Outcome:
    """`count` faults, drawn from all positions of all points and all errors."""
    outcome = Outcome("faults in a real Forge")
    options = tiny_flux.options(tiny_flux.write_all(folder / "models"))
    environ = {**ENVIRON, "PROBE_FAULTS": str(Path(injector.__file__).resolve())}
    flags = ("--nowebui", "--api", "--unet-in-bf16")
    with Forge(forge_dir, folder, flags=flags, options=options, environ=environ) as forge:
        right = {kind: picture(forge, kind) for kind in KINDS}
        cases = _cases(forge, right, outcome)
        random.Random(seed).shuffle(cases)
        before = forge.get("/probe/process")
        answered = raised = 0
        for kind, point, number, error in cases[:count]:
            picture(forge, KINDS[KINDS.index(kind) - 1])
            forge.post("/probe/faults", {"point": point, "number": number, "error": error})
            where = f"{kind}, {point} number {number}, error {error}"
            outcome.tried += 1
            try:
                found = picture(forge, kind)
            except urllib.error.HTTPError as refused:
                refused.close()
            else:
                answered += 1
                if found != right[kind]:
                    outcome.finding(f"{where}: answered with another picture")
            raised += forge.post("/probe/faults", {})["raised"]
            if _afterwards(forge, kind) != right[kind]:
                outcome.finding(f"{where}: the next picture is another one")
        outcome.figures |= {
            "positions": len(cases),
            "faults that came to pass": raised,
            "answered all the same": answered,
            "before": before,
            "after": forge.get("/probe/process"),
        }
        crashes = [line for line in forge.log().splitlines() if "Segmentation" in line or "SIGBUS" in line]
        outcome.figures["crashes"] = len(crashes)
    return outcome


def _cases(
    forge: Forge, right: dict[tuple[str, str], str], outcome: Outcome
) -> list[tuple[tuple[str, str], str, int, int]]:
    """Every position that a request reaches under the extension, with each error of its point."""
    errors = {point.name: len(point.errors) for point in injector.POINTS}
    cases = []
    for kind in KINDS:
        forge.post("/probe/faults", {"point": None})
        if picture(forge, kind) != right[kind]:
            outcome.finding(f"{kind}: another picture while calls are counted")
        calls = forge.post("/probe/faults", {})["calls"]
        cases += [
            (kind, point, number, error)
            for point, positions in calls.items()
            for number in range(positions)
            for error in range(errors[point])
        ]
    return cases


def _afterwards(forge: Forge, kind: tuple[str, str]) -> str:
    """The next picture; where a load failed, Forge alone wants another checkpoint to be chosen first."""
    try:
        return picture(forge, kind)
    except urllib.error.HTTPError as refused:
        refused.close()
    other = CHECKPOINTS[1 - CHECKPOINTS.index(kind[0])]
    try:
        picture(forge, (other, "a cat"))
    except urllib.error.HTTPError as refused:
        refused.close()
    try:
        return picture(forge, kind)
    except urllib.error.HTTPError as refused:
        return f"error {refused.code}"
