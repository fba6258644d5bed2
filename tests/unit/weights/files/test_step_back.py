"""A background thread goes last in line for the cores, alone, and nowhere does trying do harm."""

from __future__ import annotations

import os
import sys
import threading
from types import SimpleNamespace

import pytest

from flux_speedup.weights.files import step_back as module
from flux_speedup.weights.files.step_back import IDLE, LAST, step_back
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

    asked: list[tuple[int, int]] = []
    kernel = SimpleNamespace(
        GetCurrentThread=lambda: 7,
        SetThreadPriority=lambda thread, priority: asked.append((thread, priority)),
    )
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(module, "sys", SimpleNamespace(platform="win32"))
    step_back()
    assert asked == [(7, IDLE)]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_where_it_cannot_be_nothing_happens(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(module, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(os, "setpriority", refused, raising=False)
    step_back()
