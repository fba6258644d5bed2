"""Every program runs, small, and leaves a JSON file that says how it ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import PROGRAMS, main
from bench.record import Record

SMALL = {
    "loads": ["--make", "tiny", "--repeats", "1", "--device", "cpu", "--cold", "--peers", "--packed"],
    "preload": ["--runs", "1"],
}


@pytest.mark.parametrize("name", SMALL)
def test_a_program_leaves_its_json(name: str, tmp_path: Path) -> None:
    more = ["--into", str(tmp_path)] if name == "loads" else []
    main([name, *SMALL[name], *more, "--json", str(tmp_path / "x.json")])
    content = json.loads((tmp_path / "x.json").read_text())
    assert (content["bench"], content["ended"]) == (name, "complete")
    assert content["rows"]
    assert {"date", "machine", "product"} <= content.keys()


@pytest.mark.parametrize("name", sorted({*PROGRAMS} - {*SMALL}))
def test_a_program_that_needs_more_tells_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_the_json_is_whole_after_every_row(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.json"
    record = Record("x", path)
    assert json.loads(path.read_text())["ended"] == "not yet"
    record.row(a=1)
    assert json.loads(path.read_text())["rows"] == [{"a": 1}]
    record.about(more=2)
    record.end("out of time")
    record.end()
    assert json.loads(path.read_text()) | {"ended": "out of time", "more": 2} == json.loads(path.read_text())
    assert [each.name for each in path.parent.iterdir()] == ["x.json"]


def test_an_unknown_name_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert "webui" in capsys.readouterr().out
