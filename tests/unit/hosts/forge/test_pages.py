"""What counts of what a page posts."""

from __future__ import annotations

from flux_speedup.hosts.forge.pages import MAX_PAGES, Pages, Settings

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
