"""Packed files that are made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flux_speedup.ui.packed import STATES, packed_card
from flux_speedup.weights.packed.progress import FileProgress, PackedNow
from tests.fake_view import PACKED
from tests.page import Tags


def test_each_file_has_a_bar_its_bytes_and_what_it_waits_for() -> None:
    read = Tags(packed_card(PACKED))
    for expected in (
        "flux1-schnell.safetensors40 %",
        "9.5 GB of 23.8 GB · It is being packed.",
        "0 bytes of 23.8 GB · It waits: for its turn",
        "Packed files take 25.3 GB of the 68.7 GB that they may.",
    ):
        assert expected in read.text
    assert [fill["style"] for fill in read.classed("fsu-fill")] == [
        f"width:{percent}%" for percent in ("100.0", "40.0", "0.0", "50.0")
    ]


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_said(state: str) -> None:
    page = packed_card(replace(PACKED, files=(FileProgress("<b>", 0, 0, state, "why <b>"),)))
    assert STATES[state] in Tags(page).text
    assert "<b>" not in page


def test_the_button_stops_and_goes_on() -> None:
    for stopped, do, said in ((False, "packing:stop", "Stop packing"), (True, "packing:on", "Go on packing")):
        read = Tags(packed_card(replace(PACKED, stopped=stopped)))
        assert read.classed("fsu-press")[0]["data-fsu-do"] == do
        assert said in read.text


def test_what_is_off_is_offered_and_has_no_button() -> None:
    assert packed_card(PackedNow()) == ""
    read = Tags(packed_card(PackedNow("Packed weights would read less.")))
    assert "would read less" in read.text
    assert "button" not in read.seen
