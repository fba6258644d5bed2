"""The patch table on real modules made for the test: applied, verified, undone exactly."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from flux_speedup.patching.change import AlreadySo, Call, Declined, Function, Undo, Value
from flux_speedup.patching.table import PatchTable, State

SOURCE = '''
level = 1

def greet(name, *, loud=False):
    """Say hello."""
    return "hello " + name

class Base:
    def size(self):
        return 1

class Thing(Base):
    def load(self):
        return "host"
'''


@pytest.fixture
def table() -> Iterator[PatchTable]:
    made = PatchTable(logging.getLogger("flux_speedup.test"))
    yield made
    made.put_back()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ModuleType]:
    (tmp_path / "toyhost.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toyhost", raising=False)
    return lambda: importlib.import_module("toyhost")


def shout(original: Callable[..., str]) -> Callable[..., str]:
    return lambda *a, **k: original(*a, **k).upper()


GREET = Function("toyhost", "greet", shout)


def state(table: PatchTable, key: str) -> State:
    return next(o.state for o in table.outcomes() if o.item == key)


def test_an_imported_module_is_changed_at_once_and_put_back_exactly(table, host) -> None:
    toy = host()
    before = dict(vars(toy))
    methods = dict(vars(toy.Thing))
    table.add(
        "a", "A", "why", [GREET, Value("toyhost", "level", 9), Function("toyhost", "Thing.load", shout)]
    )
    assert toy.greet("you") == "HELLO YOU"
    assert toy.level == 9
    assert toy.Thing().load() == "HOST"
    assert state(table, "a") is State.APPLIED
    assert str(inspect.signature(toy.greet)) == "(name, *, loud=False)"
    table.put_back()
    assert {k: v for k, v in vars(toy).items() if before.get(k) is not v} == {}
    assert dict(vars(toy.Thing)) == methods
    assert state(table, "a") is State.UNDONE


def test_a_module_that_comes_later_is_changed_right_after_its_import(table, host) -> None:
    table.add("a", "A", "why", [GREET])
    assert state(table, "a") is State.PENDING
    toy = host()
    assert toy.greet("you") == "HELLO YOU"
    assert state(table, "a") is State.APPLIED
    assert type(toy.__loader__).__name__ == "SourceFileLoader"
    assert "Say hello" in inspect.getsource(toy)


def test_a_reload_by_the_host_is_changed_again_and_undone(table, host) -> None:
    toy = host()
    table.add("a", "A", "why", [GREET])
    for _ in range(2):
        importlib.reload(toy)
        assert toy.greet("you") == "HELLO YOU"
    table.put_back()
    assert toy.greet("you") == "hello you"
    assert "wrapped" not in repr(toy.greet)
    importlib.reload(toy)
    assert toy.greet("you") == "hello you"


def test_an_inherited_method_is_removed_again(table, host) -> None:
    toy = host()
    table.add(
        "a", "A", "why", [Function("toyhost", "Thing.size", lambda original: lambda self: original(self) + 1)]
    )
    assert toy.Thing().size() == 2
    assert toy.Base().size() == 1
    table.put_back()
    assert "size" not in vars(toy.Thing)


def test_somebody_who_wrapped_ours_keeps_working_after_the_undo(table, host) -> None:
    toy = host()
    table.add("a", "A", "why", [GREET])
    ours = toy.greet
    toy.greet = lambda name: ours(name) + "!"
    table.put_back()
    assert toy.greet("you") == "hello you!"


def test_a_value_that_somebody_changed_since_is_theirs(table, host) -> None:
    toy = host()
    table.add("a", "A", "why", [Value("toyhost", "level", 9)])
    toy.level = 5
    table.put_back()
    assert toy.level == 5


def test_half_an_item_is_none(table, host, caplog: pytest.LogCaptureFixture) -> None:
    toy = host()
    with caplog.at_level(logging.INFO):
        table.add("a", "Title", "why", [GREET, Value("toyhost", "no_such_thing", 1)])
    assert toy.greet("you") == "hello you"
    assert state(table, "a") is State.SKIPPED
    assert "no_such_thing" in next(o.why for o in table.outcomes())
    assert len(caplog.records) == 1


def test_what_waits_for_a_module_that_never_comes_is_skipped_at_the_end(table, host) -> None:
    toy = host()
    table.add("a", "A", "why", [GREET, Function("toyhost_never", "greet", shout)])
    assert toy.greet("you") == "HELLO YOU"
    table.settle()
    assert toy.greet("you") == "hello you"
    assert state(table, "a") is State.SKIPPED
    assert "toyhost_never" in next(o.why for o in table.outcomes())


@pytest.mark.parametrize("catch_up", [lambda t: t.settle(), lambda t: t.add("b", "B", "why", [])])
def test_a_module_that_is_half_imported_is_changed_once_it_is_whole(table, host, catch_up) -> None:
    """It imports the one that asked for it: no import tells when it ends."""
    toy = host()
    toy.__spec__ = SimpleNamespace(_initializing=True)
    table.add("a", "A", "why", [GREET])
    assert state(table, "a") is State.PENDING
    toy.__spec__._initializing = False
    catch_up(table)
    assert toy.greet("you") == "HELLO YOU"
    assert state(table, "a") is State.APPLIED


def test_an_exception_while_changing_never_reaches_the_importer(table, host) -> None:
    def broken(_original: Callable[..., str]) -> Callable[..., str]:
        raise RuntimeError("no")

    table.add("a", "A", "why", [Function("toyhost", "greet", broken)])
    assert host().greet("you") == "hello you"
    assert state(table, "a") is State.FAILED


def test_declined_and_already_so_are_told_apart(table) -> None:
    def declined() -> Undo:
        raise Declined("--flag was passed and wins")

    def already() -> Undo:
        raise AlreadySo("on already")

    table.add("d", "D", "why", [Call(declined)])
    table.add("s", "S", "why", [Call(already)])
    table.add("both", "B", "why", [Call(already), Call(declined)])
    assert {o.item: (o.state, o.why) for o in table.outcomes()} == {
        "d": (State.SKIPPED, "--flag was passed and wins"),
        "s": (State.APPLIED, "why; on already"),
        "both": (State.APPLIED, "why; --flag was passed and wins; on already"),
    }


def test_what_was_so_already_is_said_once_however_often_it_is_applied_again(table) -> None:
    def already() -> Undo:
        raise AlreadySo("on already")

    table.add("s", "S", "why", [Call(already), Call(already)])
    for _ in range(2):
        table.apply_again(table.put_back())
        (outcome,) = table.outcomes()
        assert (outcome.state, outcome.why) == (State.APPLIED, "why; on already")


def test_what_an_earlier_start_has_put_back_is_not_made_again_by_the_next_one(table, host) -> None:
    toy = host()
    table.add("tier", "T", "large", [Value("toyhost", "level", 9)])
    table.note("share", "S", State.SKIPPED, "no card")
    undone = table.put_back()
    table.forget()
    table.add("a", "A", "why", [GREET])
    table.forget()  # what is in force stays known
    table.apply_again(undone)
    assert toy.level != 9
    assert [outcome.item for outcome in table.outcomes()] == ["a"]


def test_one_item_is_put_back_alone_and_the_others_stay(table, host) -> None:
    toy = host()
    table.add("a", "A", "why", [GREET])
    table.add("b", "B", "why", [Value("toyhost", "level", 9)])
    table.put_back(["a"])
    assert toy.greet("you") == "hello you"
    assert toy.level == 9
    assert table.applied() == {"b"}
    importlib.reload(toy)
    assert toy.greet("you") == "hello you"
    assert toy.level == 9


def test_two_tables_one_after_the_other_leave_no_trace_in_the_import_system(host) -> None:
    before = list(sys.meta_path)
    for _ in range(2):
        table = PatchTable(logging.getLogger("flux_speedup.test"))
        table.add("a", "A", "why", [GREET])
        table.put_back()
    assert sys.meta_path == before
    assert host().greet("you") == "hello you"


def test_a_change_that_is_not_made_is_told_of_as_skipped(table, caplog: pytest.LogCaptureFixture) -> None:
    def declined() -> Undo:
        raise Declined("no card")

    with caplog.at_level(logging.INFO):
        table.add("a", "Models stay", "why", [Call(declined)])
    assert caplog.messages == ["Models stay: skipped, no card"]
