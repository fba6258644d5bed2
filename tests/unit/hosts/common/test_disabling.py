"""The WebUI's own list of disabled extensions: what is added, saved, remembered and taken away again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.common import disabling
from flux_speedup.hosts.common.inside import Refused
from flux_speedup.pruning.decision import Decision
from flux_speedup.pruning.disabled import Remembered

DECISION = Decision(
    frozenset({"forge_sag", "swinir_model", "mine"}), frozenset({"/b/sag", "/b/SwinIR", "/e/mine"})
)


class Options:
    """As the WebUI's: `set` goes through __setattr__, which asserts where settings are frozen."""

    def __init__(self, file: Path, frozen: bool = False) -> None:
        vars(self).update(
            data={"disabled_extensions": ["user"], "other": 1},
            data_labels={"disabled_extensions": object()},
            frozen=frozen,
            broken=False,
            file=file,
        )

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        assert not self.frozen, "changing settings is disabled"
        self.data[name] = value

    def set(self, key: str, value: Any) -> bool:
        setattr(self, key, value)
        return True

    def save(self, filename: str) -> None:
        if self.broken:
            raise OSError("disk full")
        Path(filename).write_text(json.dumps(self.data))


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("modules.shared")
    made.opts = Options(tmp_path / "config.json")  # type: ignore[attr-defined]
    made.config_filename = str(tmp_path / "config.json")  # type: ignore[attr-defined]
    made.cmd_opts = SimpleNamespace(freeze_settings=False, disable_extension_access=False)  # type: ignore[attr-defined]
    extensions = ModuleType("modules.extensions")
    extensions.extensions = [  # type: ignore[attr-defined]
        SimpleNamespace(name="sag", path="/b/sag", is_builtin=True, enabled=True),
        SimpleNamespace(name="SwinIR", path="/b/SwinIR", is_builtin=True, enabled=True),
        SimpleNamespace(name="partly", path="/b/partly", is_builtin=True, enabled=True),
        SimpleNamespace(name="mine", path="/e/mine", is_builtin=False, enabled=True),
    ]
    modules = ModuleType("modules")
    modules.shared, modules.extensions = made, extensions  # type: ignore[attr-defined]
    for name, found in {"modules": modules, "modules.shared": made, "modules.extensions": extensions}.items():
        monkeypatch.setitem(sys.modules, name, found)
    return made


def saved(shared: Any) -> list[str]:
    return json.loads(Path(shared.config_filename).read_text())["disabled_extensions"]


def test_only_whole_builtin_extensions_are_added_and_exactly_they_go_again(
    shared: Any, tmp_path: Path
) -> None:
    assert disabling.candidates(DECISION) == ["sag", "SwinIR"]
    shared.opts.data["disabled_extensions"] = ["user", "SwinIR"]
    assert disabling.disable(DECISION, tmp_path) == ["sag"]
    assert saved(shared) == ["user", "SwinIR", "sag"]
    assert disabling.disable(DECISION, tmp_path) == []
    assert Remembered(tmp_path).names() == ("sag",)
    shared.opts.data["disabled_extensions"].append("later")
    assert disabling.undo(tmp_path) == ["sag"]
    assert saved(shared) == ["user", "SwinIR", "later"]
    assert Remembered(tmp_path).names() == ()
    assert disabling.undo(tmp_path) == []


def test_a_second_press_adds_to_what_is_remembered(shared: Any, tmp_path: Path) -> None:
    disabling.disable(Decision(frozenset({"forge_sag"}), frozenset({"/b/sag"})), tmp_path)
    disabling.disable(DECISION, tmp_path)
    assert Remembered(tmp_path).names() == ("sag", "SwinIR")
    assert disabling.undo(tmp_path) == ["sag", "SwinIR"]
    assert saved(shared) == ["user"]


@pytest.mark.parametrize(
    ("flag", "says"),
    [("freeze_settings", "--freeze-settings"), ("disable_extension_access", "access to extensions")],
)
def test_refused_where_the_webui_does_not_allow_it(shared: Any, tmp_path: Path, flag: str, says: str) -> None:
    setattr(shared.cmd_opts, flag, True)
    assert says in disabling.why_not()
    for act in (lambda: disabling.disable(DECISION, tmp_path), lambda: disabling.undo(tmp_path)):
        with pytest.raises(Refused, match=says):
            act()
    assert shared.opts.data["disabled_extensions"] == ["user"]
    assert list(tmp_path.iterdir()) == []


def test_a_frozen_section_or_a_full_disk_leaves_everything_as_it_was(shared: Any, tmp_path: Path) -> None:
    shared.opts.data["frozen"] = True
    vars(shared.opts)["frozen"] = True
    with pytest.raises(Refused, match="changing settings is disabled"):
        disabling.disable(DECISION, tmp_path / "ours")
    vars(shared.opts)["frozen"] = False
    vars(shared.opts)["broken"] = True
    with pytest.raises(Refused, match="disk full"):
        disabling.disable(DECISION, tmp_path / "ours")
    assert shared.opts.data["disabled_extensions"] == ["user"]
    assert Remembered(tmp_path / "ours").names() == ()


def test_nothing_is_changed_that_cannot_be_remembered(shared: Any) -> None:
    with pytest.raises(Refused, match="cannot be remembered"):
        disabling.disable(DECISION, None)
    assert shared.opts.data["disabled_extensions"] == ["user"]


def test_with_nothing_left_out_there_is_nothing_to_disable(shared: Any, tmp_path: Path) -> None:
    assert disabling.candidates(None) == []
    assert disabling.disable(None, tmp_path) == []
