"""The table of settings: everything that is written of a setting elsewhere comes from it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from flux_speedup.configuration import sources
from flux_speedup.configuration.config import SECTIONS, load
from flux_speedup.configuration.setting import Setting
from flux_speedup.configuration.settings import SETTINGS, Config
from flux_speedup.configuration.written import config_json, page, table
from flux_speedup.pruning.catalog import GROUPS
from flux_speedup.ui.settings import OPTIONS, behind

EXTENSION = Path(__file__).resolve().parents[3] / "extensions" / "flux-speedup"
SHIPPED = EXTENSION / "config.json"
PAGE = EXTENSION.parents[1] / "docs" / "settings.md"
HOW = "run `python -m flux_speedup.configuration` in extensions/flux-speedup"


def test_the_shipped_file_and_the_page_are_what_the_table_says() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    assert text == config_json(json.loads(text)), HOW
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text), HOW


def test_the_shipped_file_holds_the_defaults() -> None:
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    found = {key: value for key, value in shipped.items() if key not in SECTIONS}
    assert found == json.loads(json.dumps(asdict(Config())))
    assert list(SETTINGS) == list(asdict(Config()))


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.key)
def test_a_setting_is_whole(setting: Setting) -> None:
    assert setting.kind.parse(setting.default) == setting.default
    assert setting.help
    assert setting.group
    assert bool(setting.choices) is bool(setting.label)
    assert f"`{setting.key}`" in table()


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.key)
def test_every_source_takes_it(setting: Setting, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    sources.add_flags(parser)
    default = setting.default
    word = ",".join(default) if isinstance(default, tuple) else str(default)
    for argv, environ in (
        ([sources.flag(setting), word], {}),
        ([], {f"FLUX_SPEEDUP_{setting.key.upper()}": word}),
    ):
        parser.parse_args(argv)
        loaded = load(sources.gather(argv, environ, shipped=SHIPPED, data_folder=tmp_path).sources)
        assert loaded.problems == ()
        assert getattr(loaded.config, setting.key) == default
        assert loaded.origin[setting.key] == ("command line" if argv else "environment")


def test_groups_of_scripts_have_their_names() -> None:
    assert {key: SETTINGS[key].label for key in GROUPS} == {
        key: f"Scripts: {name}" for key, name in GROUPS.items()
    }


def test_the_page_names_what_as_configured_stands_for(tmp_path: Path) -> None:
    (tmp_path / "flux-speedup.json").write_text('{"tier": "standard"}')
    environ = {"FLUX_SPEEDUP_STREAMS": "off"}
    found = behind(load(sources.gather([], environ, shipped=SHIPPED, data_folder=tmp_path).sources))
    assert set(found) == {option.key for option in OPTIONS}
    assert found["flux_speedup_tier"] == "as configured: standard, from flux-speedup.json"
    assert found["flux_speedup_streams"] == "as configured: off, from environment, whatever is chosen here"
    assert found["flux_speedup_pinning"] == "as configured: on, from config.json"
