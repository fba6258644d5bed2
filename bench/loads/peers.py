"""Other projects' loaders, those that are installed: a file to tensors on the device, page cache warm."""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.record import say

from .timing import Timing

Load = Callable[[Path], Any]


def safetensors(device: torch.device) -> Load:
    from safetensors.torch import load_file

    return lambda path: load_file(str(path), device=_word(device))


def safetensors_pread(device: torch.device) -> Load:
    """Its reader without a mapping, which 0.8 has besides."""
    from safetensors.torch import load_file

    return lambda path: load_file(str(path), device=_word(device), backend="pread")


def runai_model_streamer(device: torch.device) -> Load:
    from runai_model_streamer import SafetensorsStreamer

    def load(path: Path) -> Any:
        with SafetensorsStreamer() as streamer:
            streamer.stream_file(str(path))
            return {name: tensor.to(device) for name, tensor in streamer.get_tensors()}

    return load


def fastsafetensors(device: torch.device) -> Load:
    from fastsafetensors import fastsafe_open

    def load(path: Path) -> Any:
        with fastsafe_open(filenames=[str(path)], nogds=True, device=_word(device)) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    return load


def instanttensor(device: torch.device) -> Load:
    import instanttensor as library

    def load(path: Path) -> Any:
        with library.safe_open(str(path), framework="pt", device=device) as file:
            return dict(file.tensors())

    return load


def flashpack(device: torch.device) -> Load:
    """Reads a file of its own format, which is made beforehand."""
    from flashpack import pack_to_file
    from flashpack.deserialization import read_flashpack_file
    from safetensors.torch import load_file

    def load(path: Path) -> Any:
        packed = path.with_suffix(".flashpack")
        if not packed.exists():
            pack_to_file(load_file(path), str(packed), None)
        return read_flashpack_file(str(packed), _word(device))

    return load


PEERS: dict[str, Callable[[torch.device], Load]] = {
    "safetensors": safetensors,
    "safetensors pread": safetensors_pread,
    "runai_model_streamer": runai_model_streamer,
    "fastsafetensors": fastsafetensors,
    "instanttensor": instanttensor,
    "flashpack": flashpack,
}
"""By package, and how it reads where there are several ways."""


def peers(timing: Timing, path: Path, size: int) -> None:
    """A row a loader; one that fails is a row as well. The first of three runs makes what each needs."""
    for name, peer in PEERS.items():
        package = name.split()[0]
        if importlib.util.find_spec(package) is None:
            say(f"{package} is not installed")
            continue
        version = importlib.metadata.version(package)
        seconds = []
        try:
            load = peer(timing.device)
            for _ in range(3):
                took, result = timing.timed(lambda load=load: load(path))
                seconds.append(took)
                del result
                gc.collect()
        except Exception as error:  # another project's loader: say so and go on
            timing.record.row(name=name, version=version, error=f"{type(error).__name__}: {error}"[:300])
        else:
            timing.add(name, seconds[1:], size, version=version)
        timing.empty_cache()


def _word(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else f"{device.type}:{device.index}"
