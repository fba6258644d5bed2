"""`./run --once`: the main job, first without and then with the extension, and the comparison of the two."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import embedded
from .install import install
from .report import table
from .server import PhaseError, Server

CHECKPOINTS = ("tiny-flux-a.safetensors", "tiny-flux-b.safetensors")
PROMPT = "a lighthouse on a cliff above a stormy sea, at dusk"
LORA = f"{PROMPT} <lora:tiny-lora:1>"
LITTLE_MB = 250
"""Of the card for weights: less than the transformer has."""
STANDARD = ("--flux-speedup-tier", "standard")
"""As on a card of 50 GB and less: where a model does not fit, the WebUI gives it what there is."""
Result = dict[str, Any]


def once(file: Path | None, interpreter: Path | None = None) -> int:
    """Do it, print the table, write `file`; the exit code, 0 where every image is the same in both runs and nothing
    of the extension failed."""
    interpreter = interpreter or embedded.python()
    _say("writing the demo's models and compiling its stand-in for a card, where they are missing")
    weights = embedded.write_weights(interpreter)
    results: dict[str, Result] = {}
    try:
        for name, extended in (("without", False), ("with", True)):
            _say(f"making images {name} the extension, about a minute")
            _read_all(weights)
            results[name] = _in_own_folder(interpreter, extended)
    except PhaseError as error:
        print(f"FAILED {'with' if results else 'without'} the extension: {error}")
        return 1
    simulated = any(result.pop("simulated") for result in results.values())
    device = results["with"]["device"]
    print(table(results["without"], results["with"], device, simulated=simulated))
    if file is not None:
        found = {"simulated": simulated, "device": device, **results}
        file.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    outcomes = results["with"]["extension"]["outcomes"]
    failed = any(outcome["state"] == "failed" for outcome in outcomes)
    return 0 if same_images(results["without"], results["with"]) and not failed else 1


def same_images(one: Result, other: Result) -> bool:
    """Whether the two runs made the same bytes, image by image."""
    return _digests(one) == _digests(other)


def _digests(result: Result) -> list[str]:
    kinds = ("images", "lora_images", "switch_images", "little_images")
    return [image["sha256"] for kind in kinds for image in result[kind]]


def _say(what: str) -> None:
    print(f"-- {what}", file=sys.stderr, flush=True)


def _read_all(files: Iterable[Path]) -> None:
    """Both runs find the files in the page cache, or neither would be comparable."""
    for path in files:
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def _in_own_folder(interpreter: Path, extended: bool) -> Result:
    embedded.CACHE.mkdir(exist_ok=True)
    data = Path(tempfile.mkdtemp(prefix="once-", dir=embedded.CACHE))
    try:
        (data / "extensions").mkdir()
        if extended:
            install(data / "extensions")
        with Server(interpreter, data) as server:
            result = _measure(server, extended)
            if not extended:
                return {**result, **_with_little_room(server)}
        with Server(interpreter, data, ("--nowebui", *STANDARD)) as server:
            little = _with_little_room(server)
            passes = server.ask("/flux-speedup/v1/requests")["requests"][0]["passes"]
            result["shown"]["streamed_bytes_a_step"] = passes[0]["steps"]["bytes"]
            return {**result, **little}
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _measure(server: Server, extended: bool) -> Result:
    first = _timed(server, "reload-checkpoint")
    result: Result = {"start_s": server.start_s, "load_s": first["load"], "move_s": first["move"]}
    result["images"] = [_image(server, seed) for seed in (1, 2, 3)]
    # Settings that are written and change nothing: the WebUI alone unloads all for them.
    server.ask("/sdapi/v1/options", {"forge_pin_shared_memory": "CPU"})
    server.ask("/sdapi/v1/options", {"forge_pin_shared_memory": "Shared"})
    result["lora_images"] = [_image(server, 1, LORA), _image(server, 1, LORA.replace(":1>", ":0.5>"))]
    result["switch_images"] = []
    for key, checkpoint in (("switch_s", CHECKPOINTS[1]), ("switch_back_s", CHECKPOINTS[0])):
        server.ask("/sdapi/v1/options", {"sd_model_checkpoint": checkpoint})
        parts = _timed(server, "reload-checkpoint")
        result[key] = parts["load"] + parts["move"]
        result["switch_images"].append(_image(server, 1))
    result["unload_s"] = _timed(server, "unload-checkpoint")["unload"]
    if extended:
        result["extension"] = server.ask("/flux-speedup/v1/status")
        result["shown"] = _shown(server)
    device = server.ask("/sdapi/v1/timings")
    return {**result, "simulated": device["simulated"], "device": device["device"]}


def _shown(server: Server) -> Result:
    """What of the extension's work was done in the run, as it tells it."""
    events = server.ask("/flux-speedup/v1/stats?limit=1000")["events"]
    return {
        "kept_checkpoints_used_again": sum(event["source"] == "kept" for event in events),
        "weights_from_files": sum("file" in event["detail"] for event in events if event["kind"] == "move"),
    }


def _with_little_room(server: Server) -> Result:
    """The last thing: afterwards the server has other settings."""
    total = server.ask("/sdapi/v1/timings")["vram_mb"]
    server.ask("/sdapi/v1/options", {"forge_inference_memory": total - LITTLE_MB})
    _timed(server, "reload-checkpoint")
    return {"little_images": [_image(server, 1), _image(server, 2), _image(server, 1, LORA)]}


def _timed(server: Server, request: str) -> dict[str, float]:
    """The seconds, by kind, that the WebUI itself measured during a request."""
    before = len(server.ask("/sdapi/v1/timings")["records"])
    server.ask(f"/sdapi/v1/{request}", {})
    sums = {"load": 0.0, "move": 0.0, "unload": 0.0}
    for record in server.ask("/sdapi/v1/timings")["records"][before:]:
        sums[record["kind"]] += record["seconds"]
    return sums


def _image(server: Server, seed: int, prompt: str = PROMPT) -> dict[str, Any]:
    started = time.perf_counter()
    request = {"prompt": prompt, "seed": seed, "steps": 2, "width": 64, "height": 64}
    answer = server.ask("/sdapi/v1/txt2img", request)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "sha256": hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest()}
