"""What is weak is looked through while other threads put something in."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch

from flux_speedup.weights.residency import signature
from flux_speedup.weights.snapshot import snapshot

CPU = torch.device("cpu")
LOOKING_S = 0.5


@pytest.fixture
def putting() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Something is put in again and again, on another thread that comes in between at any time."""
    over, threads, before = threading.Event(), [], sys.getswitchinterval()

    def begin(put: Callable[[], object]) -> None:
        def work() -> None:
            kept: list[object] = []
            while not over.is_set():
                kept = [*kept[-50:], put()]

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()

    sys.setswitchinterval(1e-6)
    yield begin
    over.set()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)


def look(what: Callable[[], object]) -> None:
    end = time.monotonic() + LOOKING_S
    while time.monotonic() < end:
        what()


def test_all_of_it_is_found(putting: Callable[[Callable[[], object]], None]) -> None:
    known: weakref.WeakKeyDictionary[torch.nn.Module, int] = weakref.WeakKeyDictionary()
    stays = torch.nn.Module()
    known[stays] = 7

    def put() -> object:
        module = torch.nn.Module()
        known[module] = 1
        return module

    putting(put)
    look(lambda: snapshot(known.items).index((stays, 7)))


def test_what_checksums_take_is_told_while_others_begin(
    putting: Callable[[Callable[[], object]], None],
) -> None:
    putting(lambda: signature.Signature([4], CPU))
    look(lambda: signature.taken(CPU))
