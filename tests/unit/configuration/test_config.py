"""Configuration: types, bounds, precedence, and a sentence for everything that is wrong."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_speedup.configuration import sources as config_sources
from flux_speedup.configuration.config import MAX_PROBLEMS, MAX_SHOWN, SETTINGS, Config, Source, load

EXTENSION = Path(__file__).resolve().parents[3] / "extensions" / "flux-speedup"
SHIPPED = EXTENSION / "config.json"


def gathered(
    tmp_path: Path, argv: list[str] | None = None, environ: dict[str, str] | None = None, **more: object
):
    return config_sources.gather(argv or [], environ or {}, shipped=SHIPPED, data_folder=tmp_path, **more)


def test_precedence_is_flags_environment_settings_user_file_shipped(tmp_path: Path) -> None:
    (tmp_path / "flux-speedup.json").write_text('{"tier": "off", "streams": false, "statistics_rows": 200}')
    settings = {"flux_speedup_tier": "standard", "flux_speedup_streams": "on", "flux_speedup_pinning": "off"}
    environ = {"FLUX_SPEEDUP_TIER": "auto", "FLUX_SPEEDUP_PINNING": "on"}
    found = gathered(tmp_path, ["--flux-speedup-tier", "large"], environ, settings=settings)
    loaded = load(found.sources)
    assert loaded.problems == ()
    assert found.problems == ()
    assert (loaded.config.tier, loaded.origin["tier"]) == ("large", "command line")
    assert (loaded.config.pinning, loaded.origin["pinning"]) == (True, "environment")
    assert (loaded.config.streams, loaded.origin["streams"]) == (True, "settings")
    assert loaded.config.statistics_rows == 200
    assert loaded.origin["statistics_rows"].endswith("flux-speedup.json")
    assert loaded.origin["allocator"] == "config.json"


def test_as_configured_leaves_the_decision_to_the_files(tmp_path: Path) -> None:
    (tmp_path / "flux-speedup.json").write_text('{"tier": "large"}')
    found = gathered(tmp_path, settings={"flux_speedup_tier": "as configured"})
    assert load(found.sources).config.tier == "large"


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("tier", "huge", "one of auto, large, standard, off"),
        ("tier", 3, "one of auto"),
        ("streams", "maybe", "on or off"),
        ("streams", 1.5, "on or off"),
        ("large_tier_inference_share", 1.5, "a number from 0.05 to 0.95"),
        ("large_tier_inference_share", "a lot", "a number"),
        ("large_tier_inference_share", float("nan"), "a number"),
        ("large_tier_inference_share", True, "a number"),
        ("statistics_rows", 200.5, "a whole number"),
        ("statistics_rows", None, "a whole number"),
        ("standard_tier_inference_share", [], "or null"),
        ("keep", 3, "a list of names"),
        ("keep", ["controlnet", 3], "a list of names"),
        ("keep", ["two\nlines"], "a list of names"),
        ("keep", ["x"] * 501, "a list of names"),
        ("group_controlnet", "maybe", "one of auto, keep, leave out"),
        ("refresh_s", "5 m", "a number of seconds from 0 to 3600, or off"),
        ("refresh_s", -1, "a number of seconds"),
        ("refresh_s", True, "a number of seconds"),
        ("refresh_s", "nan", "a number of seconds"),
    ],
)
def test_a_bad_value_is_one_sentence_and_the_default_stays(key: str, value: object, allowed: str) -> None:
    loaded = load([Source("some file", {key: value})])
    assert getattr(loaded.config, key) == getattr(Config(), key)
    (problem,) = loaded.problems
    assert "some file" in problem
    assert key in problem
    assert repr(value)[:MAX_SHOWN] in problem
    assert allowed in problem


@pytest.mark.parametrize(
    ("value", "seconds"), [("off", 0), (False, 0), (0, 0), ("5 s", 5), ("2.5s", 2.5), ("30", 30), (7, 7)]
)
def test_seconds_are_taken_with_their_unit_or_without(value: object, seconds: float) -> None:
    loaded = load([Source("some file", {"refresh_s": value})])
    assert loaded.problems == ()
    assert loaded.config.refresh_s == seconds


@pytest.mark.parametrize("word", ["on", "true", "1", "yes", True, " On ", "TRUE"])
def test_words_for_on(word: object) -> None:
    assert load([Source("x", {"cudnn_benchmark": word})]).config.cudnn_benchmark is True
    assert load([Source("x", {"cudnn_benchmark": word})]).problems == ()


@pytest.mark.parametrize("word", ["off", "false", "0", "no", False, " Off ", "FALSE"])
def test_words_for_off(word: object) -> None:
    assert load([Source("x", {"streams": word})]).config.streams is False
    assert load([Source("x", {"streams": word})]).problems == ()


@pytest.mark.parametrize(
    ("value", "found"),
    [(True, "auto"), ("on", "auto"), (" ON ", "auto"), (False, "off"), ("off", "off"), ("Large", "large")],
)
def test_on_is_the_first_word_of_a_choice(value: object, found: str) -> None:
    loaded = load([Source("x", {"tier": value})])
    assert (loaded.config.tier, loaded.problems) == (found, ())
    assert load([Source("x", {"tier": "once"})]).problems != ()


def test_an_unknown_key_is_named_and_ignored() -> None:
    loaded = load([Source("some file", {"teir": "large"})])
    assert loaded.config == Config()
    assert "'teir'" in loaded.problems[0]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"a"', "\x00\x01", "null", "{" * 5000, '{"a": 1}'.encode("utf-16").decode("latin-1")],
)
def test_a_broken_user_file_is_one_sentence_and_everything_else_works(tmp_path: Path, text: str) -> None:
    (tmp_path / "flux-speedup.json").write_text(text, encoding="utf-8")
    found = gathered(tmp_path, ["--flux-speedup-tier=large"])
    assert load(found.sources).config.tier == "large"
    assert len(found.problems) == 1
    assert "flux-speedup.json" in found.problems[0]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_no_value_whatever_raises(value: object) -> None:
    for key in SETTINGS:
        loaded = load([Source("some file", {key: value})])
        assert isinstance(loaded.config, Config)


def test_names_come_as_a_list_or_separated_by_commas(tmp_path: Path) -> None:
    (tmp_path / "flux-speedup.json").write_text('{"left_out": ["loopback", " loopback ", "sd_*", ""]}')
    loaded = load(gathered(tmp_path, ["--flux-speedup-keep", "controlnet, xyz_grid,"]).sources)
    assert loaded.problems == ()
    assert loaded.config.keep == ("controlnet", "xyz_grid")
    assert loaded.config.left_out == ("loopback", "sd_*")
    assert load(gathered(tmp_path, environ={"FLUX_SPEEDUP_KEEP": ""}).sources).config.keep == ()


def test_a_file_that_does_not_exist_is_said_only_when_it_was_asked_for(tmp_path: Path) -> None:
    assert gathered(tmp_path).problems == ()
    # The second cannot even be looked for.
    for missing in (str(tmp_path / "missing.json"), "x" * 5000):
        for found in (
            gathered(tmp_path, ["--flux-speedup-config", missing]),
            gathered(tmp_path, environ={"FLUX_SPEEDUP_CONFIG": missing}),
        ):
            assert missing in found.problems[0]


def test_the_off_flag_turns_off_over_everything(tmp_path: Path) -> None:
    found = gathered(tmp_path, ["--flux-speedup-off"], {"FLUX_SPEEDUP_ENABLED": "on"})
    assert load(found.sources).config.enabled is False


def test_commandline_args_count_as_flags_once(tmp_path: Path) -> None:
    environ = {"COMMANDLINE_ARGS": '--api --flux-speedup-tier standard --ckpt "a b"'}
    assert load(gathered(tmp_path, ["launch.py"], environ).sources).config.tier == "standard"
    broken = gathered(tmp_path, ["launch.py"], {"COMMANDLINE_ARGS": '--ckpt "a b'})
    assert "COMMANDLINE_ARGS" in broken.problems[0]


def start(argv: list[str]) -> argparse.Namespace:
    """The WebUI's own parsing of a command line, which ends the process where it does not know a word."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--api", action="store_true")
    config_sources.add_flags(parser, argv)
    return parser.parse_args(argv)


@pytest.mark.parametrize("after", [[], ["--api"]])
def test_a_flag_without_its_value_means_on_or_is_told_and_stops_no_start(
    tmp_path: Path, after: list[str]
) -> None:
    argv = ["--flux-speedup-cudnn-benchmark", "--flux-speedup-statistics-rows", *after]
    start(argv)
    found = gathered(tmp_path, argv)
    loaded = load(found.sources)
    assert loaded.config == replace(Config(), cudnn_benchmark=True)
    assert found.problems == ()
    (problem,) = loaded.problems
    assert problem.startswith("command line: statistics_rows = True is not a whole number")
    start(["--flux-speedup-config", *after])
    assert "needs the path" in gathered(tmp_path, ["--flux-speedup-config", *after]).problems[0]


def test_a_misspelt_flag_or_variable_is_told_like_a_misspelt_key_and_stops_no_start(tmp_path: Path) -> None:
    argv = ["--api", "--flux-speedup-tierr", "large", "--flux-speedup-stream=off", "--flux-speedup-offf"]
    assert start(argv).api
    found = gathered(tmp_path, argv, {"FLUX_SPEEDUP_TIERR": "large", "FLUX_SPEEDUP_WEBUI": "x"})
    loaded = load(found.sources)
    assert loaded.config == Config()
    assert loaded.problems == (
        "command line: unknown key 'tierr' (tier was probably meant); it is ignored",
        "command line: unknown key 'stream' (streams was probably meant); it is ignored",
        "command line: unknown key 'offf'; it is ignored",
        "environment: unknown key 'tierr' (tier was probably meant); it is ignored",
    )


def test_what_is_wrong_fills_no_log(tmp_path: Path) -> None:
    many: dict[str, object] = {f"{'k' * 5000}{number}": 1 for number in range(50_000)}
    loaded = load([Source("some file", {"tier": "x" * 900_000, **many})])
    assert len(loaded.problems) <= MAX_PROBLEMS + 1
    assert max(map(len, loaded.problems)) < 400
    assert loaded.problems[-1].startswith(f"{50_001 - MAX_PROBLEMS} more")


def test_settings_file_is_read_tolerantly_before_options_exist(tmp_path: Path) -> None:
    saved = tmp_path / "config.json"
    saved.write_text('{"flux_speedup_tier": "off", "sd_model_checkpoint": "x", "samples_save": true}')
    assert load(gathered(tmp_path, settings_file=saved).sources).config.tier == "off"
    saved.write_text('{"flux_speedup_tier": ')
    broken = gathered(tmp_path, settings_file=saved)
    assert str(saved) in broken.problems[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    """A pipe would be waited for, /dev/zero read until all memory is taken."""
    place = tmp_path / "configuration"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to(os.devnull)
    else:
        place.mkdir()
    found = gathered(tmp_path, environ={"FLUX_SPEEDUP_CONFIG": str(place)})
    assert found.problems == (f"{place}: cannot be read as configuration (it is no file); it is ignored",)
