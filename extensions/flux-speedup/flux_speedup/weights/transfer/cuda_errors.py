"""An error that a CUDA call of ours left behind: the thread's next kernel would raise it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def take_error_off(error: int) -> int:
    """Passes a CUDA call's answer through; after an error the calling thread is as it was before the call.

    The runtime remembers it for the thread, and whoever launches a kernel next is told. So an empty one is
    launched here, which waits for nothing and takes no memory.
    """
    if error:
        cuda: Any = torch.cuda
        with contextlib.suppress(RuntimeError):
            cuda._sleep(0)
    return error
