"""The device that is measured, and what is told of the machine around it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch

from flux_speedup.weights.transfer.transfer import default_threads


def device_named(name: str) -> torch.device:
    """A CPU gets a number, so that it is not equal to the weights' home."""
    device = torch.device(name)
    return torch.device("cpu", 0) if device.type == "cpu" else torch.device(device.type, device.index or 0)


def described(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    simulated = device.type == "cpu"
    return {
        "device": "RAM standing for a card" if simulated else torch.cuda.get_device_name(device),
        "threads": options.threads or default_threads(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "scale": options.scale,
    }
