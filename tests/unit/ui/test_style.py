"""The style: one set of colours for light, one for dark."""

from __future__ import annotations

import re

from flux_speedup.stats.requests import PARTS
from flux_speedup.ui import requests
from flux_speedup.ui.assets import CSS

VARIABLE = re.compile(r"(--fsu-[a-z]+):")


def block(selector: str) -> set[str]:
    """The variables that the rule of this selector sets."""
    start = CSS.index(f"\n{selector} {{")
    return set(VARIABLE.findall(CSS[start : CSS.index("}", start)]))


def test_every_colour_has_a_light_and_a_dark_value_and_every_one_used_is_there() -> None:
    light, dark = block(".fsu, .fsu-page"), block(".dark .fsu, .dark .fsu-page")
    assert light == dark
    assert set(re.findall(r"var\((--fsu-[a-z]+)\)", CSS)) <= light


def test_every_part_of_a_request_has_its_colour() -> None:
    for part in PARTS:
        assert f".{requests.css(part)} {{ --c: var(" in CSS


def test_the_sheet_is_whole_and_cannot_leave_its_element() -> None:
    assert CSS.count("{") == CSS.count("}")
    assert "</" not in CSS
