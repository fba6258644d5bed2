"""What counts of what a page posts."""

from __future__ import annotations

import copy
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.forge import pages as forge_pages
from flux_speedup.hosts.forge.pages import MAX_PAGES, Pages, Settings
from flux_speedup.patching.change import Function

BUILT = Settings(61440, "Async", "Shared")


def pages() -> Pages:
    made = Pages()
    made.built(BUILT)
    return made


def test_a_page_that_posts_what_the_ui_was_built_with_changes_nothing() -> None:
    current = Settings(50000, "Queue", "Shared")
    assert pages().post("page", BUILT, current) == current


def test_only_what_the_user_changed_counts() -> None:
    current = Settings(50000, "Async", "Shared")
    assert pages().post("page", Settings(61440, "Queue", "Shared"), current) == Settings(
        50000, "Queue", "Shared"
    )


def test_changing_something_back_counts_too() -> None:
    made = pages()
    current = made.post("page", Settings(61440, "Queue", "Shared"), BUILT)
    assert made.post("page", BUILT, current) == BUILT


def test_pages_do_not_disturb_each_other() -> None:
    made = pages()
    current = made.post("one", Settings(61440, "Queue", "Shared"), BUILT)
    assert made.post("two", BUILT, current) == current


def test_after_the_ui_was_built_anew_its_values_are_the_start() -> None:
    made = pages()
    made.post("page", Settings(1, "Queue", "CPU"), BUILT)
    made.built(Settings(1, "Async", "CPU"))
    assert made.post("page", Settings(1, "Async", "CPU"), BUILT) == BUILT


def test_old_pages_are_forgotten() -> None:
    made = pages()
    for number in range(MAX_PAGES + 1):
        made.post(f"page {number}", Settings(number, "Queue", "CPU"), BUILT)
    # The first page is new again: what it posts is compared with what the UI was built with.
    assert made.post("page 0", BUILT, Settings(7, "Queue", "CPU")) == Settings(7, "Queue", "CPU")


def test_before_the_ui_is_built_a_post_is_taken_as_it_is() -> None:
    posted = Settings(1, "Queue", "CPU")
    assert Pages().post("page", posted, BUILT) == posted


def answers(*values: object) -> list[dict[str, object]]:
    """As `on_preset_change` answers: the memory settings at places 3 to 5."""
    return [{"value": value} for value in values]


KNOWN = answers(0, 1, 2, "Queue", "CPU", 1024)


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (KNOWN, True),
        ([*KNOWN, {"value": 9}], True),
        (answers(0, 1, 2, "Async", "Shared", 1024.5), True),
        (tuple(KNOWN), False),
        (None, False),
        (KNOWN[:5], False),
        ([*KNOWN[:5], "value"], False),
        (answers(0, 1, 2, "CPU", "Queue", 1024), False),
        (answers(0, 1, 2, "Queue", "CPU", "1024"), False),
        ([{}, {}, {}, {}, {}, {}], False),
    ],
)
def test_an_answer_in_another_form_is_handed_on_as_it_is(
    given: Any, known: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry, shared = ModuleType(forge_pages.ENTRY), ModuleType("modules.shared")
    entry.total_vram = 80_000  # type: ignore[attr-defined]
    shared.opts = SimpleNamespace(  # type: ignore[attr-defined]
        forge_inference_memory=20_000, forge_async_loading="ours", forge_pin_shared_memory="ours too"
    )
    monkeypatch.setitem(sys.modules, forge_pages.ENTRY, entry)
    monkeypatch.setitem(sys.modules, "modules.shared", shared)
    (change,) = [each for each in forge_pages.changes(lambda: frozenset({"streams", "pinning"}))
                 if isinstance(each, Function) and each.path == "on_preset_change"]  # fmt: skip
    before = copy.deepcopy(given)
    answer = change.make(lambda _preset: given)("flux")
    if known:
        assert [each["value"] for each in answer[3:6]] == ["ours", "ours too", before[5]["value"]]
        assert answer[:3] == before[:3]
    else:
        assert answer == before
        assert "answers in another order" in caplog.text
