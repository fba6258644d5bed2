"""What the first load of a process would pay for besides its bytes, paid before somebody waits for it.

Arenas are pinned, streams are made, and every kernel comes to the card at its first use: so a few megabytes go
the whole way and are dropped again, and what an image computes with is used once. CLIP's tokenizer, too, imports a
package at its first use.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..stats.report import seconds as in_words
from .first_kernels import has_room, use_once
from .residency.residency import BEFORE, STAGING, Residency
from .transfer.lane import Lane, lane_for
from .transfer.staging import Arena

KINDS = frozenset({"cuda", "xpu"})
_COUNT = 1 << 20  # elements
_log = logging.getLogger("flux_speedup")


def warm_up(
    device: torch.device,
    arena: Arena = STAGING,
    before: Arena = BEFORE,
    lanes: Callable[[torch.device], Lane] = lane_for,
) -> None:
    """Load, check and unload a little on the device, from this thread. Raises TransferError, RuntimeError."""
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.zeros(_COUNT, dtype=torch.bfloat16), requires_grad=False)
    residency = Residency(module, arena=arena, lanes=lanes)
    residency.load(device)
    residency.unload()
    with before.slots(pinned=lanes(device).pinned):
        return


def warm_up_soon(
    device: torch.device,
    warm: Callable[[torch.device], None] = warm_up,
    kinds: frozenset[str] = KINDS,
    then: Callable[[], object] = lambda: None,
) -> threading.Thread | None:
    """`warm_up` on a thread of its own, for a device of `kinds`, and `then`. Neither waits nor raises."""
    if device.type not in kinds:
        return None
    work = partial(_work, device, warm, then)
    thread = threading.Thread(target=work, name="flux-speedup-warm-up", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads here: the first load pays
        return None
    return thread


def _work(device: torch.device, warm: Callable[[torch.device], None], then: Callable[[], object]) -> None:
    started = time.perf_counter()
    module: Any = getattr(torch, device.type) if device.type in KINDS else None
    try:
        with contextlib.suppress(ImportError):  # first: a model that is built meanwhile waits for it
            importlib.import_module("ftfy")
        with contextlib.nullcontext() if module is None else module.device(device):
            warm(device)
            if module is not None and has_room(module, device):
                use_once(device)
        if module is not None:
            module.empty_cache()  # what it took on the card is the WebUI's
        then()
    except Exception as error:  # a courtesy in the background: it must not be able to stop anything
        _log.info("the first load is not prepared (%s)", str(error).split("\n")[0])
    else:
        _log.debug("the first load is prepared, in %s", in_words(time.perf_counter() - started))
