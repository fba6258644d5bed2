"""Every figure of docs/benchmarks.md comes from a JSON file that is committed beside it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import RESULTS
from bench.__main__ import PROGRAMS, main
from bench.page.command import HEAD, TITLES, pages
from bench.page.table import Table, figure, markdown, picture
from bench.page.tables import CPU, tables

FILES = sorted(RESULTS.glob("*.json"))


def test_the_page_and_its_pictures_are_what_the_json_files_give() -> None:
    made = pages(RESULTS)
    there = {*RESULTS.glob("*.svg"), RESULTS.with_suffix(".md")}
    assert {path: path.read_text(encoding="utf-8") for path in there} == made, "run: python -m bench page"


def test_what_is_not_made_from_a_file_has_no_figure() -> None:
    assert not re.search(r"\d", HEAD + "".join(TITLES.values()))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_another_figure_in_a_file_is_another_figure_in_the_page(file: Path, tmp_path: Path) -> None:
    results = tmp_path / "benchmarks"
    results.mkdir()
    shutil.copy(file, results)
    before = pages(results)[results.with_suffix(".md")]
    content = json.loads(file.read_text(encoding="utf-8"))
    numbers = [(row, key) for row in content["rows"] for key in ("seconds", "best", "median") if key in row]
    row, key = numbers[-1]
    row[key] = 98765.0
    (results / file.name).write_text(json.dumps(content), encoding="utf-8")
    assert "98765" in pages(results)[results.with_suffix(".md")]
    assert "98765" not in before


def test_every_program_has_a_title() -> None:
    told_elsewhere = {"pool", "dashboard"}  # docs/deploying.md
    assert {*TITLES} == {*PROGRAMS} - {"page"} - told_elsewhere


def test_pictures_that_no_file_gives_any_longer_are_removed(tmp_path: Path) -> None:
    results = tmp_path / "benchmarks"
    results.mkdir()
    shutil.copy(FILES[0], results / "one.json")
    (results / "old-1.svg").write_text("<svg/>")
    main(["page", "--results", str(results)])
    assert not (results / "old-1.svg").exists()
    assert all(path.stem.startswith("one-") for path in results.glob("*.svg"))


def test_a_webui_run_is_told_by_card_and_by_what_went_wrong() -> None:
    def row(variant: str, request: str, **more: object) -> dict[str, object]:
        return {"round": 0, "card": 12.0, "variant": variant, "request": request, **more}

    rows = [
        row("ours", "start", seconds=20.0),
        row("ours", "first", seconds=2.0, moving=0.5, parts={"move": 0.4, "vae": 0.1}),
        row("ours", "first", seconds=4.0, moving=0.7),
        row("ours", "a step", seconds=0.25),
        row("alone", "first", error="500: out of memory"),
        row("alone", "again", error="TimeoutError('timed out')"),
    ]
    steps, requests, parts = tables({"bench": "webui", "rows": rows})
    assert steps.rows == (("12 GiB", (0.25, None)),)
    assert requests.columns == ("ours", "alone", "ours: of it moving", "alone: of it moving")
    assert requests.rows == (
        ("first", (3.0, "failed", 0.6, None)),
        ("again", (None, "not in time", None, None)),
    )
    assert parts.rows == (("first", (0.4, 0.1)),)


def test_the_request_that_all_began_with_is_told_by_what_its_seconds_were_for() -> None:
    rows = [
        {
            "card": "all",
            "variant": v,
            "round": 0,
            "request": f"seed's request, {r}",
            "seconds": 9.0,
            "moving": m,
            "building": 1.0,
        }
        for v, m in (("alone", 6.0), ("ours", 0.5))
        for r in ("A", "B")
    ]
    (apart,) = (table for table in tables({"bench": "webui", "rows": rows}) if "ADetailer" in table.title)
    assert apart.rows[0] == ("A, alone", (1.0, 6.0, 2.0))
    assert [label for label, _ in apart.rows] == ["A, alone", "A, ours", "B, alone", "B, ours"]


def test_a_load_is_told_beside_the_plain_copy_of_as_many_bytes() -> None:
    rows = [
        {"name": "plain", "best": 2.0, "median": 2.0, "bytes": 10, "gb_per_s": 5},
        {"name": "warm", "best": 3.0, "median": 3.0, "bytes": 10, "gb_per_s": 4},
        {"name": "small", "best": 1.0, "median": 1.0, "bytes": 5, "gb_per_s": 4},
        {"name": "peer", "version": "1.0", "error": "ImportError"},
    ]
    (table,) = tables({"bench": "loads", "rows": rows})
    assert [(label, cells[0], cells[3]) for label, cells in table.rows] == [
        ("plain", 2.0, 1.0),
        ("warm", 3.0, 1.5),
        ("small", 1.0, None),
        ("peer 1.0", "failed", None),
    ]


def test_starts_are_told_in_cpu_seconds_first() -> None:
    def row(webui: str, variant: str, median: float, figure: str, **more: object) -> dict[str, object]:
        figures = {"median": median, "lowest": 1.0, "highest": 9.0}
        return {"webui": webui, "mode": "page", "figure": figure, "variant": variant, **figures, **more}

    rows = [row("one", "alone", 4.0, CPU), row("one", "ours", 2.0, CPU, of_before=0.5)]
    rows += [row("one", "alone", 5.0, "whole start"), row("two", "alone", 3.0, CPU)]
    rows.append({"webui": "two", "mode": "page", "variant": "ours", "error": "died"})
    seconds, everything = tables({"bench": "start", "rows": rows})
    assert seconds.rows == (("one, page", (4.0, 2.0)), ("two, page", (3.0, None)))
    assert everything.rows[:2] == (
        (f"one, page: {CPU}", (4.0, 2.0, "1.00 to 9.00", "1.00 to 9.00", 0.5)),
        ("one, page: whole start", (5.0, None, "1.00 to 9.00", None, None)),
    )


def test_figures_have_three_digits_that_count() -> None:
    told: dict[object, str] = {None: "", 0: "0", 0.00012: "0.0001"}
    told |= {0.25: "0.250", 1.234: "1.23", 42.19: "42.2", 378.4: "378", "x": "x"}
    assert [figure(cell) for cell in told] == list(told.values())


@pytest.mark.parametrize("stacked", [True, False])
def test_a_picture_is_valid_and_its_longest_bar_fits(stacked: bool) -> None:
    table = Table("a < b", ("one", "two"), (("x", (1.0, 3.0)), ("y & z", (None, "failed"))), 2, stacked)
    drawn = ElementTree.fromstring(picture(table))
    bars = [each for each in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert max(float(bar.get("x", 0)) + float(bar.get("width", 0)) for bar in bars) <= 720 - 60
    assert "| x | 1.00 | 3.00 |" in markdown(table)
