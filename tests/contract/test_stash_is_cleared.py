"""Forge's own operations on simulated copy streams: nothing that was cast stays while memory is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

REPOSITORY = Path(__file__).resolve().parents[2]

ON_FORGE = r"""
import contextlib, gc, json, sys
ours, sys.argv = sys.argv[1], [sys.argv[0], "--always-cpu"]
sys.path[:0] = [ours, "."]
import torch
from backend import memory_management as manager, operations, stream

class Event:
    over = False
    def query(self):
        return self.over
    def synchronize(self):
        self.over = True

class Stream:
    def __init__(self):
        self.events, self.waits = [], 0
    def record_event(self):
        self.events.append(Event())
        return self.events[-1]
    def wait_event(self, event):
        pass
    def synchronize(self):
        self.waits += 1
        for event in self.events:
            event.over = True

stream.current_stream, stream.mover_stream = Stream(), Stream()
stream.stream_activated = True
stream.stream_context = lambda: lambda which: contextlib.nullcontext()

def held():
    gc.collect()
    return sum(w.nbytes for w, *_ in operations.stash.values())

def encode():
    kind = dict(device=torch.device("cpu"), dtype=torch.float16, manual_cast_enabled=True)
    with operations.using_forge_operations(**kind):
        layer = torch.nn.Linear(64, 32, bias=False)
    layer.weight = torch.nn.Parameter(torch.ones(32, 64, dtype=torch.float16))
    layer(torch.ones(1, 64))
    return held()

counted = []

def get_free_memory(dev=None, torch_free_too=False):
    counted.append(held())
    return (1, 1) if torch_free_too else 1

manager.get_free_memory = get_free_memory
gpu = torch.device("cpu", 0)
found = {"stashed": [], "counted": []}

def count(step):
    counted.clear()
    step()
    found["counted"].append(list(counted))

def all_steps():
    found["stashed"].append(encode())
    count(lambda: manager.free_memory(2, gpu))
    found["stashed"].append(encode())
    manager.load_models_gpu([])
    found["counted"].append([held()])
    found["stashed"].append(encode())
    stream.stream_activated = False  # in the page, meanwhile
    count(lambda: manager.free_memory(2, gpu))
    stream.stream_activated = True

all_steps()
alone = found
found = {"stashed": [], "counted": []}
from flux_speedup.hosts.forge import stash
from flux_speedup.patching.change import apply_all
operations.stash.clear()
undo = apply_all(stash.changes())
all_steps()
waits = stream.current_stream.waits
manager.free_memory(2, gpu)
idle = stream.current_stream.waits - waits
undo()
undone = manager.free_memory.__module__ == manager.__name__ and not hasattr(manager.free_memory, "__wrapped__")
print("found", json.dumps({"alone": alone, "ours": found, "idle": idle, "undone": undone}))
"""


@pytest.fixture(scope="module")
def found(forge_dir: Path) -> dict:
    venv = forge_dir / "venv"
    python = next(
        (p for p in (venv / "bin/python", venv / "Scripts/python.exe") if p.exists()), sys.executable
    )
    ours = REPOSITORY / "extensions" / "flux-speedup"
    done = subprocess.run(
        [str(python), "-c", ON_FORGE, str(ours)],
        cwd=forge_dir,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("found "))
    return json.loads(line.removeprefix("found "))


def test_alone_the_last_layers_weights_are_there_while_memory_is_counted(found: dict) -> None:
    assert found["alone"]["stashed"][0] == 32 * 64 * 4
    assert all(counted and min(counted) > 0 for counted in found["alone"]["counted"])


def test_they_are_gone_before_memory_is_counted(found: dict) -> None:
    assert all(found["ours"]["stashed"])
    assert all(counted and max(counted) == 0 for counted in found["ours"]["counted"])


def test_where_nothing_is_stashed_nothing_is_waited_for(found: dict) -> None:
    assert found["idle"] == 0
    assert found["undone"]
