"""The options of the Settings section."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flux_speedup.configuration.config import AS_CONFIGURED, SETTINGS
from flux_speedup.configuration.kinds import BadValue
from flux_speedup.pruning.catalog import GROUPS
from flux_speedup.ui.settings import OPTIONS, Option

PREFIX = "flux_speedup_"


def test_the_switches_people_look_for_are_there() -> None:
    keys = {option.key.removeprefix(PREFIX) for option in OPTIONS}
    assert {"enabled", "tier", "streams", "pinning", "weights", "read_ahead", "statistics", "pruning"} <= keys
    assert set(GROUPS) <= keys


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_an_option_changes_nothing_until_somebody_chooses(option: Option) -> None:
    assert option.default == AS_CONFIGURED
    assert option.choices[0] == AS_CONFIGURED
    ways = (("keep", "leave out"), ("when needed", "never"))
    assert "off" in option.choices or option.choices[1:] in ways
    assert option.label
    assert option.info


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_every_choice_is_one_the_configuration_takes(option: Option) -> None:
    kind = SETTINGS[option.key.removeprefix(PREFIX)].kind
    taken = [kind.parse(choice) for choice in option.choices[1:]]
    assert len(set(taken)) == len(taken)
    with pytest.raises(BadValue):
        kind.parse("neither")


def test_the_refresh_rate_is_chosen_in_seconds() -> None:
    (option,) = [option for option in OPTIONS if option.key == "flux_speedup_refresh_s"]
    assert [SETTINGS["refresh_s"].kind.parse(choice) for choice in option.choices[1:]] == [
        2.0,
        5.0,
        30.0,
        0.0,
    ]


def test_importing_the_room_imports_no_gradio() -> None:
    # A process of its own: in this one another test may have imported it.
    code = (
        "import sys, flux_speedup.ui.tab, flux_speedup.ui.changes, flux_speedup.ui.settings;"
        "sys.exit('gradio' in sys.modules or 'torch' in sys.modules)"
    )
    environment = {"PYTHONPATH": next(path for path in sys.path if path.endswith("flux-speedup"))}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
