"""README is one read, leads to files that exist, and has no figure that no run made."""

from __future__ import annotations

import json
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MOST_LINES = 120


def test_it_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= MOST_LINES


def test_what_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r"`(tests/[^`]+)`", README)
    assert len(links) > 15
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_every_second_in_it_is_one_of_a_committed_run() -> None:
    rows = [
        row
        for file in (REPOSITORY / "docs" / "benchmarks").glob("*.json")
        for row in json.loads(file.read_text(encoding="utf-8")).get("rows", [])
    ]
    known = {f"{row['seconds']:#.3g}" for row in rows if "seconds" in row}
    told = re.findall(r"(\d+\.\d+) s\b", README)
    assert len(told) >= 8
    assert [figure for figure in told if figure not in known] == []


def test_the_entry_for_the_webuis_index_has_what_the_webui_shows() -> None:
    entry = json.loads((REPOSITORY / "docs" / "extension-index.json").read_text(encoding="utf-8"))
    assert set(entry) == {"name", "url", "description", "tags"}
    assert entry["tags"] == ["tab", "script"]
    assert 50 < len(entry["description"]) < 500
