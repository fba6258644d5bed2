"""Fifty clients at once on a real Forge: checkpoints, LoRAs and our routes in any order; every picture checked."""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
import threading
import time
import urllib.error
from collections import Counter
from pathlib import Path
from typing import Any

from tests.integration import tiny_flux
from tests.integration.forge import Forge
from tests.soak.outcome import Outcome

CLIENTS = 50
CHECKPOINTS = ("tiny-one.safetensors", "tiny-two.safetensors")
PROMPTS = ("a cat", "a cat <lora:tiny-lora-a:1>", "a dog <lora:tiny-lora-a:0.5> <lora:tiny-lora-b:1>")
KINDS = tuple(itertools.product(CHECKPOINTS, PROMPTS))
COMMON = {
    "seed": 1,
    "steps": 1,
    "width": 64,
    "height": 64,
    "cfg_scale": 1,
    "sampler_name": "Euler",
    "scheduler": "Simple",
}
# Refused while an image is made: that is their answer, and no finding.
BUSY = (403, 409)


def run(seconds: float, forge_dir: Path, folder: Path, seed: int = 0) -> Outcome:
    """The pictures of each kind as they are when one client asks are what all others must get."""
    outcome = Outcome("crowd")
    options = tiny_flux.options(tiny_flux.write_all(folder / "models"))
    flags = ("--nowebui", "--api", "--unet-in-bf16", "--enable-insecure-extension-access")
    with Forge(forge_dir, folder, flags=flags, options=options, environ={"PROBE_TINY": "1"}) as forge:
        right = {kind: picture(forge, kind) for kind in KINDS}
        crowd = _Crowd(forge, right, outcome, time.monotonic() + seconds)
        before = forge.get("/probe/process")
        threads = [
            threading.Thread(target=crowd.client, args=(random.Random(seed + n),)) for n in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for kind in KINDS:
            if picture(forge, kind) != right[kind]:
                outcome.finding(f"afterwards {kind} is another picture")
        after = forge.get("/probe/process")
        outcome.figures |= {
            "answers": dict(sorted(crowd.answers.items())),
            "descriptors, threads before": before,
            "descriptors, threads after": after,
        }
        if "Traceback" in forge.log():
            outcome.finding("a traceback in the log: " + forge.log().split("Traceback", 1)[1][:600])
    return outcome


class _Crowd:
    """What the clients share."""

    def __init__(self, forge: Forge, right: dict[tuple[str, str], str], outcome: Outcome, end: float) -> None:
        self._forge = forge
        self._right = right
        self._outcome = outcome
        self._end = end
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()

    def client(self, rng: random.Random) -> None:
        while time.monotonic() < self._end:
            what = rng.random()
            if what < 0.7:
                self._image(rng.choice(KINDS))
            elif what < 0.9:
                path = rng.choice(("status", "stats", "models", "machine", "requests", "metrics", "config"))
                self._ask(path, None)
            else:
                self._ask("drop", {"key": None})
            time.sleep(rng.random() * 0.2)

    def _image(self, kind: tuple[str, str]) -> None:
        try:
            found = picture(self._forge, kind)
        except (urllib.error.URLError, OSError) as error:
            self._found("image failed", f"{kind}: {error}")
            return
        self._found("image", None if found == self._right[kind] else f"{kind}: another picture")

    def _ask(self, path: str, body: dict[str, Any] | None) -> None:
        try:
            if body is None:
                self._forge.text(f"/flux-speedup/v1/{path}")
            else:
                self._forge.post(f"/flux-speedup/v1/{path}", body)
        except urllib.error.HTTPError as error:
            error.close()
            self._found(f"{path}: {error.code}", None if error.code in BUSY else f"{path}: {error.code}")
        except OSError as error:
            self._found(f"{path} failed", f"{path}: {error}")
        else:
            self._found(path, None)

    def _found(self, answer: str, wrong: str | None) -> None:
        with self._lock:
            self.answers[answer] += 1
            self._outcome.tried += 1
            if wrong is not None:
                self._outcome.finding(wrong)


def picture(forge: Forge, kind: tuple[str, str]) -> str:
    """The hash of the image that Forge answers with."""
    checkpoint, prompt = kind
    body = {**COMMON, "prompt": prompt, "override_settings": {"sd_model_checkpoint": checkpoint}}
    answer = forge.post("/sdapi/v1/txt2img", body)
    return hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest()
