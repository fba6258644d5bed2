"""When nothing reads any more what was asked for before."""

from __future__ import annotations

import time
from typing import Any

import torch

SETTLE_S = 0.05  # between asking for a piece and queueing its copy lie microseconds


def copies_done() -> None:
    """Wait for what the devices have to do by now, and for whoever is about to give them more right now."""
    time.sleep(SETTLE_S)
    cuda: Any = torch.cuda
    if cuda.is_initialized():
        for number in range(cuda.device_count()):
            cuda.synchronize(number)
