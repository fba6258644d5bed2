"""The line at start, and the line in the Extensions tab."""

from __future__ import annotations

from flux_speedup.pruning import words
from flux_speedup.pruning.catalog import GROUPS, LEFT_OUT
from flux_speedup.pruning.decision import Decision


def test_one_line_names_groups_reasons_and_what_is_missing() -> None:
    line = words.summary(
        Decision(
            frozenset(LEFT_OUT), kept={"loopback": "keep names it"}, unmatched=("typo",), held_back={"x": "y"}
        )
    )
    assert line.startswith("36 scripts are not loaded")
    assert all(group in line for group in GROUPS.values())
    assert "loopback (keep names it)" in line
    assert "not in this WebUI: typo" in line
    assert "x (y)" in line
    assert "\n" not in line


def test_long_lists_are_cut_and_nothing_left_out_is_said() -> None:
    kept = {f"{i:02}": "why" for i in range(50)}
    assert "39 (why) and 10 more" in words.summary(Decision(kept=kept))
    mistyped = [f"typo{number}" for number in range(words.FEW + 2)]
    assert words.summary(Decision(unmatched=(*LEFT_OUT, *mistyped))).endswith("typo7 and 2 more")
    assert words.summary(Decision(unmatched=tuple(LEFT_OUT))) == "nothing is left out"
    assert words.summary(Decision()) == "nothing is left out"
    assert "others" in words.summary(Decision(frozenset({"my_own"})))
    assert words.summary(Decision(frozenset({"loopback"}))).startswith("1 script is")
