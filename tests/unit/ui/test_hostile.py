"""Whatever a name is made of, no part of the page has markup that is not ours."""

from __future__ import annotations

import html
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flux_speedup.stats.machine import Measuring
from flux_speedup.stats.starts import Start
from flux_speedup.ui import machine, parts
from tests.fake_view import NASTY, FakeView, full_of
from tests.page import Tags

# All that our own HTML is made of.
OURS = {
    "div",
    "span",
    "b",
    "bdi",
    "br",
    "button",
    "details",
    "summary",
    "svg",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "rect",
    "circle",
    "line",
    "text",
    "title",
}
GB = 10**9
names = st.one_of(st.sampled_from(NASTY), st.text(max_size=40), st.text("<>&\"'/ =onx!-]", max_size=20))


def check(page: str) -> Tags:
    """Only our tags, no attribute that runs anything, everything closed, and nothing cut or unescaped."""
    read = Tags(page)
    assert read.seen <= OURS
    assert read.open == []
    for _, attributes in read.all:
        assert not any(key.startswith("on") or key in ("href", "src") for key in attributes)
    page.encode("utf-8")
    assert "\u202e" not in page
    return read


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names)
def test_no_part_takes_markup_from_a_name(name: str) -> None:
    view = full_of(name)
    made = parts.values(view, None)
    harmless = parts.values(full_of("harmless"), None)
    for part, page in made.items():
        read = check(page)
        # As many elements as with a harmless name: nothing was added, nothing swallowed.
        if name.strip() and part not in ("local", "requests", "head", "start"):
            assert [tag for tag, _ in read.all] == [tag for tag, _ in Tags(harmless[part]).all]
    assert tuple(made) == parts.NAMES
    check(machine.progress(Measuring("running", 0.5, name)))
    check(machine.progress(Measuring("failed", 0.5, "", name)))


@pytest.mark.parametrize("name", [name for name in NASTY if name.isprintable()])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    made = parts.values(full_of(name), None)
    for part in ("status", "requests", "packed", "memory", "models", "local", "log"):
        assert name in Tags(made[part]).text, part
    assert html.escape(name) in made["rates"]


def test_a_part_that_cannot_be_read_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeView):
        def starts(self) -> list[Start]:
            raise OSError("database <gone>")

    view = Broken()
    view.saved = replace(view.saved, since_start=412.3)
    made = parts.values(view, None)
    assert "could not be read: <bdi>database &lt;gone&gt;</bdi>" in made["start"]
    assert "412 s" in made["head"]
    assert "the tab's part start could not be read" in caplog.text
