"""Other projects' loaders, those that are installed."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flux_speedup.weights.files.mapping import Mapping
from measure.output import say

from .models import size_of_tensors
from .rows import Bench


def peer_loaders(device: torch.device) -> dict[str, Callable[[Path], Any]]:
    """Other loaders that are installed, each as a function from a file to tensors on the device."""
    kind = device.type if device.index is None else f"{device.type}:{device.index}"
    found: dict[str, Callable[[Path], Any]] = {}
    if importlib.util.find_spec("safetensors"):
        from safetensors.torch import load_file

        found["safetensors load_file"] = lambda path: load_file(str(path), device=kind)
    if importlib.util.find_spec("runai_model_streamer"):
        from runai_model_streamer import SafetensorsStreamer

        def runai(path: Path) -> Any:
            with SafetensorsStreamer() as streamer:
                streamer.stream_file(str(path))
                return {name: tensor.to(device) for name, tensor in streamer.get_tensors()}

        found["runai_model_streamer"] = runai
    if importlib.util.find_spec("fastsafetensors"):
        from fastsafetensors import fastsafe_open

        def fast(path: Path) -> Any:
            with fastsafe_open(filenames=[str(path)], nogds=True, device=kind) as file:
                return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118

        found["fastsafetensors"] = fast
    if importlib.util.find_spec("instanttensor"):
        import instanttensor

        def instant(path: Path) -> Any:
            with instanttensor.safe_open(str(path), framework="pt", device=device) as file:
                return dict(file.tensors())

        found["instanttensor"] = instant
    return found


def peers(bench: Bench, mapping: Mapping) -> None:
    size = size_of_tensors(mapping)
    for name, load in peer_loaders(bench.device).items():
        seconds = []
        try:
            for _ in range(3):
                took, result = bench.timed(lambda load=load: load(mapping.path))
                seconds.append(took)
                del result
                gc.collect()
        except Exception as error:  # another project's loader: say so and go on
            say(f"peer {name}: failed ({type(error).__name__}: {error})")
        if seconds:
            bench.add(f"peer {name}", seconds, size)
        bench.empty_cache()
