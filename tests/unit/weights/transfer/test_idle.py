"""Steps in the background: only while it is quiet, one at a time, on a thread that lives while it is needed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from flux_speedup.weights.transfer import idle
from flux_speedup.weights.transfer.idle import WhileIdle
from tests.waiting import PATIENCE_S, eventually


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_POLL_S", 0.01)
    monkeypatch.setattr(idle, "_WATCH_S", 0.01)


def ended(waiting: WhileIdle) -> bool:
    return eventually(lambda: waiting._thread is None)


def steps(count: int, seen: list[str], name: str) -> Callable[[], bool]:
    def step() -> bool:
        seen.append(name)
        return len([one for one in seen if one == name]) == count

    return step


def test_a_step_is_repeated_until_nothing_is_left_and_the_thread_ends() -> None:
    seen: list[str] = []
    waiting = WhileIdle(lambda: False, quiet_s=0.0)
    waiting.add("a", steps(3, seen, "a"))
    waiting.add("b", steps(2, seen, "b"))
    assert waiting.wait(PATIENCE_S)
    assert ended(waiting)
    assert seen == ["a", "a", "a", "b", "b"]
    waiting.add("c", steps(1, seen, "c"))  # and begins anew
    assert waiting.wait(PATIENCE_S)
    assert seen[-1] == "c"


def test_what_waits_already_is_not_added_again() -> None:
    seen: list[str] = []
    waiting = WhileIdle(lambda: True, quiet_s=60.0)
    waiting.add("a", steps(1, seen, "first"))
    waiting.add("a", steps(1, seen, "second"))
    waiting._busy = lambda: False
    waiting._quiet_s = -1
    assert waiting.wait(PATIENCE_S)
    assert seen == ["first"]


def test_nothing_is_done_before_it_was_quiet_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    now, seen, asked = [0.0], list[float](), threading.Event()
    monkeypatch.setattr(idle, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep))
    busy = [False]

    def is_busy() -> bool:
        asked.set()
        return busy[0]

    def after(moment: float, is_busy: bool = False) -> None:
        """Let the clock show `moment`, and two looks at it pass."""
        now[0], busy[0] = moment, is_busy
        for _ in range(2):
            asked.clear()
            assert asked.wait(PATIENCE_S)

    def step() -> bool:
        seen.append(now[0])
        return len(seen) == 2

    waiting = WhileIdle(is_busy, quiet_s=4.0)
    waiting.add("a", step)
    after(3.9)
    waiting.stir()  # a load
    after(7.8)
    after(7.85, is_busy=True)
    after(11.8)
    assert seen == []
    now[0] = 12.0
    assert eventually(lambda: not waiting._steps)
    assert seen == [12.0, 12.0]


def test_an_image_between_two_steps_is_waited_for() -> None:
    seen: list[int] = []
    busy = [False]

    def step() -> bool:
        seen.append(1)
        busy[0] = True
        return False

    waiting = WhileIdle(lambda: busy[0], quiet_s=0.0)
    waiting._quiet_s = 0.001
    waiting.add("a", step)
    time.sleep(0.3)
    assert len(seen) == 1
    waiting.clear()
    assert ended(waiting)


def test_it_watches_as_long_as_there_is_something_to_watch() -> None:
    answers = [True, True, False]
    watched: list[bool] = []

    def watch() -> bool:
        watched.append(answers[len(watched)])
        return watched[-1]

    waiting = WhileIdle(lambda: False, watch, quiet_s=0.0)
    waiting.add("a", lambda: True)
    assert ended(waiting)
    assert watched == answers


def test_where_no_thread_can_be_started_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: object) -> None:
        raise RuntimeError("can't start new thread")

    seen: list[str] = []
    waiting = WhileIdle(lambda: False, quiet_s=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuses)
        waiting.add("a", steps(1, seen, "a"))
    assert not waiting._steps
    waiting.add("a", steps(1, seen, "a"))
    assert waiting.wait(PATIENCE_S)
    assert seen == ["a"]


@pytest.mark.parametrize("where", ["step", "busy", "watch"])
def test_whatever_fails_ends_it_with_one_line(where: str, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> Any:
        raise OSError("no more descriptors")

    parts = {"step": lambda: True, "busy": lambda: False, "watch": lambda: False, where: fails}
    waiting = WhileIdle(parts["busy"], parts["watch"], quiet_s=0.0)
    with caplog.at_level(logging.INFO, "flux_speedup"):
        waiting.add("a", parts["step"])
        assert ended(waiting)
    (line,) = caplog.messages
    assert "no more descriptors" in line
    assert not waiting._steps


def test_what_is_to_be_done_at_once_does_not_wait_for_quiet_until_somebody_was_busy() -> None:
    seen: list[str] = []
    busy = threading.Event()
    waiting = WhileIdle(busy.is_set, quiet_s=60.0)

    def step() -> bool:
        seen.append("a")
        if len(seen) == 3:
            busy.set()
        return False

    waiting.add("a", step, at_once=True)
    assert eventually(busy.is_set)
    assert eventually(lambda: not waiting._at_once)
    busy.clear()
    time.sleep(0.05)
    assert len(seen) == 3  # what is left waits as anything else does
    waiting.clear()
    assert ended(waiting)


def test_a_step_that_comes_while_the_thread_looks_which_is_first_loses_none() -> None:
    waiting = WhileIdle(lambda: True, quiet_s=0.0)

    class Steps(dict[Any, Any]):
        """Another thread adds one as soon as somebody looks."""

        def __iter__(self) -> Any:
            found = super().__iter__()
            another = threading.Thread(target=waiting.add, args=("b", lambda: True), daemon=True)
            another.start()
            another.join(0.1)
            return found

    waiting._thread = threading.current_thread()  # no other one looks
    waiting._steps = Steps({"a": lambda: True})
    assert not waiting._first_is_at_once()
    assert eventually(lambda: len(waiting._steps) == 2)
