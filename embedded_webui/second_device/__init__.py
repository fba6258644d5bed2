"""A device that PyTorch tells apart from the CPU, a stand-in for a card: its memory is RAM, and counted.

`card.cpp` is compiled once for each version of PyTorch (g++, some seconds) and kept in the repository's ignored
`.cache`. It has no streams and no events.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import sys
import types
from collections.abc import Iterator
from typing import Any
import torch
from .built import NotBuilt, library

CARD = torch.device("hpu", 0)


@functools.cache
def why_not() -> str:
    """Why there is no such device here; empty where there is one, which from then on is in force."""
    try:
        _load()
    except NotBuilt as error:
        return f"no second device: {error}"
    return ""


def used() -> int:
    """Bytes of its memory that are taken once garbage is collected."""
    gc.collect()
    return taken()


def taken() -> int:
    """Bytes of its memory that are taken now."""
    return int(_load().card_used())


def refusals() -> int:
    """How often it was out of memory."""
    return int(_load().card_refusals())


class Allocations:
    """How much was asked for since: `count` of blocks, `peak` bytes taken at most."""

    def __init__(self, library: Any) -> None:
        self._library = library
        library.card_start_counting()

    @property
    def count(self) -> int:
        return int(self._library.card_allocations())

    @property
    def peak(self) -> int:
        return int(self._library.card_peak())


def counted() -> Allocations:
    """Count allocations from here on."""
    return Allocations(_load())


@contextlib.contextmanager
def full(left: int = 0) -> Iterator[None]:
    """In here only `left` bytes more can be had: then it is out of memory, as torch.OutOfMemoryError."""
    card = _load()
    card.card_limit(used() + left)
    try:
        yield
    finally:
        card.card_limit((1 << 63) - 1)


@functools.cache
def _load() -> Any:
    card = ctypes.CDLL(str(library()))
    for name in ("card_used", "card_peak", "card_allocations", "card_refusals"):
        getattr(card, name).restype = ctypes.c_int64
    card.card_limit.argtypes = [ctypes.c_int64]
    _register()
    return card


def _register() -> None:
    """What torch asks a kind of device for in Python."""
    module: Any = types.ModuleType("torch.hpu")
    module.is_available = module.is_initialized = lambda: True
    module.device_count = lambda: 2
    module.current_device = lambda: 0
    module._is_in_bad_fork = lambda: False
    module._lazy_init = lambda: None
    module.manual_seed_all = lambda _seed: None
    module.get_rng_state = lambda _device=0: torch.zeros(1)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    module.device = lambda _device: contextlib.nullcontext()
    torch._register_device_module("hpu", module)
    sys.modules["torch.hpu"] = module
