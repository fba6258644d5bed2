"""The scripts on the list are there in Forge, with the names that the catalog says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flux_speedup.pruning.catalog import ENTRIES, Entry


def file_of(forge_dir: Path, stem: str) -> Path:
    found = [
        *forge_dir.glob(f"scripts/{stem}.py"),
        *forge_dir.glob(f"extensions-builtin/*/scripts/{stem}.py"),
    ]
    assert len(found) == 1, (stem, found)
    return found[0]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.stem)
def test_forge_has_it_and_its_names_stand_in_it(forge_dir: Path, entry: Entry) -> None:
    text = file_of(forge_dir, entry.stem).read_text(encoding="utf-8")
    if entry.titles:
        assert any(f'return "{title}"' in text for title in entry.titles)
    for name in (*entry.upscalers, entry.postprocessing):
        assert not name or f'name = "{name}"' in text
    for name in entry.switches:
        assert name in text
    for name in entry.infotext:
        assert name.endswith(" ") or f'"{name}"' in text


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.part_of], ids=lambda entry: entry.stem)
def test_what_is_part_of_controlnet_is_of_no_use_without_it(forge_dir: Path, entry: Entry) -> None:
    text = file_of(forge_dir, entry.stem).read_text(encoding="utf-8")
    assert re.search(r"add_supported_preprocessor|add_supported_control_model|controlnet", text)
    assert "scripts.Script)" not in text


def test_no_other_always_on_script_of_forges_builtins_registers_under_these_titles(forge_dir: Path) -> None:
    listed = {entry.stem for entry in ENTRIES}
    titles = {title for entry in ENTRIES for title in entry.titles}
    for file in forge_dir.glob("extensions-builtin/*/scripts/*.py"):
        if file.stem not in listed:
            assert not any(f'return "{title}"' in file.read_text(encoding="utf-8") for title in titles)
