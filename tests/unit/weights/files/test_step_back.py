"""A background thread goes last in line for the cores, alone, and nowhere does trying do harm."""

from __future__ import annotations

import os
import sys
import threading
from types import SimpleNamespace

import pytest

from flux_speedup.weights.files import step_back as module
from flux_speedup.weights.files.step_back import BELOW, LAST, step_back
from tests.waiting import PATIENCE_S


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a nice value on Linux")
def test_the_thread_alone_steps_back() -> None:
    found: list[int] = []

    def work() -> None:
        step_back()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, 0)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE_S)
    assert found == [LAST]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_on_windows_by_its_own_function(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    this_thread = ctypes.c_void_p(-2)  # a number as wide as a pointer
    asked: list[tuple[int | None, int]] = []

    @ctypes.CFUNCTYPE(ctypes.c_void_p)
    def get_current_thread() -> int | None:
        return this_thread.value

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    def set_thread_priority(thread: int | None, priority: int) -> int:
        asked.append((thread, priority))
        return 1

    def library(name: str) -> SimpleNamespace:
        """Its functions as ctypes has them: of numbers of 32 bits, unless they are told."""
        assert name == "kernel32"
        plain = ctypes.CFUNCTYPE(ctypes.c_int)
        found = [ctypes.cast(each, plain) for each in (get_current_thread, set_thread_priority)]
        return SimpleNamespace(GetCurrentThread=found[0], SetThreadPriority=found[1])

    monkeypatch.setattr(ctypes, "WinDLL", library, raising=False)
    monkeypatch.setattr(module, "sys", SimpleNamespace(platform="win32"))
    step_back()
    assert asked == [(this_thread.value, BELOW)]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_where_it_cannot_be_nothing_happens(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(module, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(os, "setpriority", refused, raising=False)
    step_back()
