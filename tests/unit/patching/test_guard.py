"""The guard around every replaced function: ours fails, the host's own counts, and it never runs twice."""

from __future__ import annotations

import errno
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from flux_speedup.patching.change import Call, Function, apply_all
from flux_speedup.patching.failures import Failures
from flux_speedup.patching.guard import meant
from flux_speedup.patching.table import PatchTable, State
from tests.waiting import PATIENCE_S

TITLE = "What it is"


class Host(ModuleType):
    """A module whose one function counts its runs, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__("guardedhost")
        self.runs = 0
        self.fails: BaseException | None = None

    def work(self, *args: Any, **named: Any) -> Any:
        self.runs += 1
        if self.fails is not None:
            raise self.fails
        return args, named


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


@pytest.fixture
def table() -> Iterator[PatchTable]:
    made = PatchTable(logging.getLogger("flux_speedup.test"))
    yield made
    made.put_back()


def arm(table: PatchTable, ours: Callable[..., Any], **more: Any) -> None:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **named: ours(original, *args, **named)

    table.add("it", TITLE, "why", [Function("guardedhost", "work", make, **more)])


def outcome(table: PatchTable) -> tuple[State, str]:
    return next((o.state, o.why) for o in table.outcomes())


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError(), RuntimeError("CUDA out of memory")])
def test_ours_fails_before_the_hosts_and_the_hosts_runs_with_the_same_arguments(
    table, host, error, caplog
) -> None:
    def ours(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
        raise error

    arm(table, ours)
    with caplog.at_level(logging.WARNING):
        assert host.work(1, two=2) == ((1,), {"two": 2})
    assert host.runs == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert TITLE in caplog.text
    assert "work" in caplog.text
    assert "left it to the WebUI" in outcome(table)[1]


def test_ours_fails_after_the_hosts_and_its_answer_stands(table, host) -> None:
    def ours(original: Callable[..., Any], *args: Any) -> Any:
        original(*args)
        raise ValueError("afterwards")

    arm(table, ours)
    assert host.work(1) == ((1,), {})
    assert host.runs == 1


def test_what_the_host_raises_goes_on_as_it_is_and_counts_for_nothing(table, host) -> None:
    arm(table, lambda original, *args: original(*args))
    host.fails = ValueError("the host's own")
    for number in range(1, 6):
        with pytest.raises(ValueError, match="the host's own") as raised:
            host.work()
        assert raised.value is host.fails
        assert host.runs == number
    assert outcome(table) == (State.APPLIED, "why")


def test_the_host_never_runs_twice_where_ours_makes_another_error_of_its_own(table, host) -> None:
    def ours(original: Callable[..., Any]) -> Any:
        try:
            return original()
        except ValueError as error:
            raise RuntimeError("in our words") from error

    arm(table, ours)
    host.fails = ValueError("the host's own")
    with pytest.raises(RuntimeError, match="in our words"):
        host.work()
    assert host.runs == 1


class Interrupted(BaseException):
    """As the WebUI's own, which ends an image."""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), Interrupted()])
def test_an_interruption_goes_on(table, host, error) -> None:
    def ours(original: Callable[..., Any]) -> Any:
        raise error

    arm(table, ours)
    with pytest.raises(type(error)):
        host.work()
    assert host.runs == 0


def test_an_answer_that_is_meant_for_the_caller_goes_on(table, host) -> None:
    def ours(original: Callable[..., Any]) -> Any:
        raise meant(ValueError("422"))

    arm(table, ours)
    for _ in range(5):
        with pytest.raises(ValueError, match="422"):
            host.work()
    assert host.runs == 0
    assert outcome(table)[0] is State.APPLIED


def test_what_may_not_be_followed_by_the_hosts_raises(table, host) -> None:
    def ours(original: Callable[..., Any]) -> Any:
        raise ValueError("half done")

    arm(table, ours, guarded=False)
    with pytest.raises(ValueError, match="half done"):
        host.work()
    assert host.runs == 0


def test_three_of_a_kind_switch_it_off_until_a_restart_and_say_so(table, host, caplog) -> None:
    errors: list[Exception] = [KeyError("a"), ValueError("b"), KeyError("c"), ValueError("d"), KeyError("e")]
    asked = []

    def ours(original: Callable[..., Any]) -> Any:
        asked.append(1)
        raise errors[len(asked) - 1]

    before = vars(host).get("work")
    arm(table, ours)
    with caplog.at_level(logging.WARNING):
        for _ in range(9):
            host.work()
    assert len(asked) == 5
    assert host.runs == 9
    state, why = outcome(table)
    assert state is State.FAILED
    assert "3 times" in why
    assert "until a restart" in why
    assert vars(host).get("work") is before
    assert len([r for r in caplog.records if "switched off" in r.getMessage()]) == 1
    arm(table, ours)  # "Reload UI"
    host.work()
    assert len(asked) == 5
    assert outcome(table)[0] is State.FAILED


def test_it_is_put_back_only_when_that_does_no_harm(host) -> None:
    waiting: list[Callable[[], None]] = []
    table = PatchTable(logging.getLogger("flux_speedup.test"), waiting.append)

    def ours(original: Callable[..., Any]) -> Any:
        raise ValueError("no")

    arm(table, ours)
    for _ in range(5):
        host.work()
    assert len(waiting) == 1
    assert outcome(table)[0] is State.APPLIED
    waiting[0]()
    assert outcome(table)[0] is State.FAILED
    assert "work" not in vars(host)


def test_changes_made_inside_a_call_are_guarded_for_the_same_item(table, host) -> None:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def ours(*args: Any) -> Any:
            raise ValueError("no")

        return ours

    table.add("it", TITLE, "why", [Call(lambda: apply_all([Function("guardedhost", "work", make)]))])
    assert host.work(1) == ((1,), {})
    assert "left it to the WebUI" in outcome(table)[1]


def test_two_items_around_one_function_each_answer_for_themselves(table, host) -> None:
    def inner(original: Callable[..., Any]) -> Callable[..., Any]:
        def ours(*args: Any) -> Any:
            raise ValueError("inner")

        return ours

    table.add("inner", "Inner", "why", [Function("guardedhost", "work", inner)])
    table.add("outer", "Outer", "why", [Function("guardedhost", "work", lambda original: original)])
    assert host.work(1) == ((1,), {})
    assert host.runs == 1
    whys = {o.item: o.why for o in table.outcomes()}
    assert "left it" in whys["inner"]
    assert whys["outer"] == "why"


def test_a_call_inside_a_call_and_calls_side_by_side_are_told_apart(table, host) -> None:
    def ours(original: Callable[..., Any], depth: int) -> Any:
        if depth:
            host.work(depth - 1)
        raise ValueError("before the host's own of this call")

    arm(table, ours)
    assert host.work(1) == ((1,), {})
    assert host.runs == 2
    threads = [threading.Thread(target=host.work, args=(0,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert host.runs == 10


def test_a_switch_off_waits_for_the_image_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from flux_speedup.hosts.common.inside import Inside

    queue = ModuleType("modules.call_queue")
    queue.queue_lock = threading.Lock()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules.call_queue", queue)
    done = threading.Event()
    with queue.queue_lock:
        Inside().when_idle(done.set)
        assert not done.wait(0.05)
    assert done.wait(PATIENCE_S)


class OutOfMemoryError(RuntimeError):
    """As PyTorch's is called."""


@pytest.mark.parametrize("shortage", [MemoryError(), OutOfMemoryError("card"), OSError(errno.ENOMEM, "full")])
def test_memory_that_is_short_now_and_then_switches_nothing_off(host, shortage: Exception) -> None:
    now = [0.0]
    table = PatchTable(logging.getLogger("flux_speedup.test"), failures=Failures(lambda: now[0]))

    def ours(original: Callable[..., Any]) -> Any:
        raise shortage

    arm(table, ours)
    for _ in range(20):
        host.work()
        now[0] += 301
    assert outcome(table)[0] is State.APPLIED
    for _ in range(2):
        host.work()
    assert outcome(table)[0] is State.FAILED
    table.put_back()
