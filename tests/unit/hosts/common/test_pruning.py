"""Scripts left out of a WebUI's own listing; the modules have the shapes of Forge's and A1111's."""

from __future__ import annotations

import configparser
import logging
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.common import pruning
from flux_speedup.hosts.common.pruning import Pruner, remove_loaded
from flux_speedup.patching.table import PatchTable
from flux_speedup.pruning.catalog import LEFT_OUT
from flux_speedup.pruning.decision import Decision
from flux_speedup.pruning.surroundings import Wishes

ScriptFile = namedtuple("ScriptFile", ["basedir", "filename", "path"])
CORE = ("custom_code", "xyz_grid", "loopback")
BUILTIN = {
    "SwinIR": ("scripts/swinir_model.py", "style.css"),
    "sd_forge_controlnet": (
        "scripts/controlnet.py",
        "scripts/xyz_grid_support.py",
        "javascript/canvas.js",
        "javascript/more.mjs",
    ),
    "postprocessing-for-training": (
        "scripts/postprocessing_focal_crop.py",
        "scripts/postprocessing_caption.py",
        "javascript/postprocessing_focal_crop.js",
        "javascript/loopback.js",
        "javascript/others.js",
    ),
    "Lora": ("scripts/lora_script.py", "javascript/lora.js"),
}
INSTALLED = {"flux-speedup": ("scripts/flux_speedup.py", "style.css")}


LIST = Wishes(LEFT_OUT)


class Host:
    """A WebUI in a folder: listing as all of the family do it, each listing with new extension objects."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for stem in CORE:
            self.write(root / "scripts" / f"{stem}.py")
        self.write(root / "javascript" / "loopback.js")
        for place, made in (("extensions-builtin", BUILTIN), ("extensions", INSTALLED)):
            for name, files in made.items():
                for file in files:
                    self.write(root / place / name / file)
        self.opts = SimpleNamespace(data={}, disable_all_extensions="none", disabled_extensions=[])
        self.extensions = ModuleType("modules.extensions")
        self.scripts = ModuleType("modules.scripts")
        self.shared = ModuleType("modules.shared")
        self.shared.opts = self.opts
        self.shared.cmd_opts = SimpleNamespace(ui_config_file=str(root / "ui-config.json"))
        self.extensions.extensions = []
        self.extensions.active = lambda: [each for each in self.extensions.extensions if each.enabled]
        self.extensions.list_extensions = self.list_extensions
        self.scripts.list_scripts = self.list_scripts
        self.scripts.list_files_with_name = self.list_files_with_name
        paths = ModuleType("modules.paths_internal")
        paths.script_path, paths.models_path, paths.data_path = str(root), str(root / "models"), str(root)
        self.modules = {
            "modules": ModuleType("modules"),
            "modules.extensions": self.extensions,
            "modules.scripts": self.scripts,
            "modules.shared": self.shared,
            "modules.paths_internal": paths,
        }
        for name, module in self.modules.items():
            setattr(self.modules["modules"], name.rpartition(".")[2], module)
        self.list_extensions()

    @staticmethod
    def write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def list_extensions(self) -> None:
        self.extensions.extensions[:] = [
            SimpleNamespace(
                name=folder.name,
                path=str(folder),
                is_builtin=place == "extensions-builtin",
                enabled=folder.name not in self.opts.disabled_extensions,
                status="",
                metadata=SimpleNamespace(config=self._metadata(folder)),
            )
            for place in ("extensions-builtin", "extensions")
            for folder in sorted((self.root / place).iterdir())
        ]

    @staticmethod
    def _metadata(folder: Path) -> configparser.ConfigParser:
        found = configparser.ConfigParser()
        found.read(folder / "metadata.ini")
        return found

    def list_scripts(
        self, folder: str, extension: str, *, include_extensions: bool = True
    ) -> list[ScriptFile]:
        places = [str(self.root)]
        if include_extensions:
            places += [each.path for each in self.extensions.active()]
        return [
            ScriptFile(place, file.name, str(file))
            for place in places
            for file in sorted((Path(place) / folder).glob(f"*{extension}"))
        ]

    def list_files_with_name(self, filename: str) -> list[str]:
        places = [str(self.root), *(each.path for each in self.extensions.active())]
        return [str(Path(place) / filename) for place in places if (Path(place) / filename).is_file()]

    def names(self, folder: str, extension: str) -> set[str]:
        return {file.filename for file in self.scripts.list_scripts(folder, extension)}

    def status(self) -> dict[str, str]:
        return {each.name: each.status for each in self.extensions.extensions}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(pruning, "FOLDER", tmp_path / "extensions" / "flux-speedup")
    for name, module in made.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


@pytest.fixture
def table() -> Iterator[PatchTable]:
    made = PatchTable(logging.getLogger("flux_speedup.test"))
    yield made
    made.put_back()


def arm(table: PatchTable, wishes: Wishes = LIST, small_card: bool = False) -> Pruner:
    pruner = Pruner(lambda: ())
    table.add("pruning", "", "", pruner.changes(lambda: wishes, small_card, table.put_back))
    return pruner


def test_scripts_and_all_files_of_whole_extensions_are_gone(host: Host, table: PatchTable) -> None:
    everything = host.names("scripts", ".py")
    pruner = arm(table)
    assert host.names("scripts", ".py") == {
        "custom_code.py",
        "postprocessing_caption.py",
        "lora_script.py",
        "flux_speedup.py",
    }
    assert everything - host.names("scripts", ".py") == {f"{s}.py" for s in pruner.decision.left_out}  # type: ignore[union-attr]
    assert host.names("javascript", ".js") == {"loopback.js", "others.js", "lora.js"}
    assert host.names("javascript", ".mjs") == set()
    assert [Path(file).parent.name for file in host.scripts.list_files_with_name("style.css")] == [
        "flux-speedup"
    ]


def test_what_is_listed_before_or_for_other_ends_is_whole(host: Host, table: PatchTable) -> None:
    arm(table)
    assert "canvas.js" in host.names("javascript", ".js")
    host.write(host.root / "modules" / "processing_scripts" / "loopback.py")
    host.write(host.root / "localizations" / "loopback.json")
    host.names("scripts", ".py")
    assert host.names("modules/processing_scripts", ".py") == {"loopback.py"}
    assert host.names("localizations", ".json") == {"loopback.json"}


def test_the_extensions_tab_says_so_after_every_listing_and_nothing_is_disabled(
    host: Host, table: PatchTable
) -> None:
    arm(table)
    host.names("scripts", ".py")
    for _ in range(2):
        status = host.status()
        assert status["SwinIR"] == "not loaded by Flux Speedup (Settings &gt; Flux Speedup)"
        assert status["postprocessing-for-training"].startswith("partly not loaded")
        assert (status["Lora"], status["flux-speedup"]) == ("", "")
        assert all(each.enabled for each in host.extensions.extensions)
        host.extensions.list_extensions()
    table.put_back()
    assert set(host.status().values()) == {""}


def test_put_back_everything_is_listed_as_before(host: Host, table: PatchTable) -> None:
    before = (host.scripts.list_scripts, host.names("scripts", ".py"), host.names("javascript", ".js"))
    pruner = arm(table)
    host.names("scripts", ".py")
    table.put_back()
    assert (
        host.scripts.list_scripts,
        host.names("scripts", ".py"),
        host.names("javascript", ".js"),
    ) == before
    assert pruner.decision is None


@pytest.mark.parametrize("another_copy", [False, True])
def test_where_our_own_script_is_gone_everything_is_put_back(
    host: Host, table: PatchTable, another_copy: bool
) -> None:
    pruner = arm(table)
    if another_copy:  # it has stood down, and will do nothing
        host.write(host.root / "extensions" / "zz" / "scripts" / "flux_speedup.py")
    host.names("scripts", ".py")
    assert pruner.decision is not None
    host.opts.disabled_extensions = ["flux-speedup"]
    host.extensions.list_extensions()
    assert "xyz_grid.py" in host.names("scripts", ".py")
    assert table.applied() == frozenset()
    assert host.scripts.list_scripts == host.list_scripts
    assert (pruner.decision, pruner.missing) == (None, None)


def test_files_of_the_webui_decide(host: Host, table: PatchTable) -> None:
    (host.root / "ui-config.json").write_text('{"txt2img/Upscaler/value": "SwinIR 4x"}')
    host.write(host.root / "models" / "ControlNet" / "inside" / "canny.safetensors")
    (host.root / "extensions" / "needs" / "scripts").mkdir(parents=True)
    (host.root / "extensions" / "needs" / "scripts" / "a.py").write_text('name = "xyz_grid.py"\n')
    (host.root / "extensions" / "needs" / "metadata.ini").write_text(
        "[scripts/a.py]\nRequires = x|loopback.py\n"
    )
    host.extensions.list_extensions()
    pruner = arm(table)
    host.names("scripts", ".py")
    assert pruner.decision is not None
    kept = pruner.decision.kept
    assert "page's defaults" in kept["swinir_model"]
    assert "canny.safetensors" in kept["controlnet"]
    assert kept["xyz_grid"] == "needs refers to it"
    assert kept["loopback"] == "needs requires it"
    assert "canvas.js" in host.names("javascript", ".js")


def test_names_of_upscalers_are_those_of_their_files(host: Host, table: PatchTable) -> None:
    host.write(host.root / "models" / "SwinIR" / "mine.pth")
    host.opts.data["upscaler_for_img2img"] = "mine"
    pruner = arm(table)
    host.names("scripts", ".py")
    assert pruner.decision is not None
    assert "upscaler_for_img2img" in pruner.decision.kept["swinir_model"]


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_broken_ui_config_is_as_none(host: Host, table: PatchTable, text: str) -> None:
    (host.root / "ui-config.json").write_text(text)
    arm(table)
    assert "swinir_model.py" not in host.names("scripts", ".py")


def test_an_error_of_ours_loads_everything_and_is_said(
    host: Host, table: PatchTable, caplog: pytest.LogCaptureFixture
) -> None:
    arm(table)
    del host.extensions.extensions[0].is_builtin
    with caplog.at_level(logging.ERROR, logger="flux_speedup"):
        assert "xyz_grid.py" in host.names("scripts", ".py")
    assert "could not be left out" in caplog.text


def test_what_was_loaded_all_the_same_leaves_the_runners(host: Host) -> None:
    def script(stem: str) -> Any:
        return SimpleNamespace(filename=f"/somewhere/{stem}.py")

    def runner() -> Any:
        found = [script("controlnet"), script("lora_script"), script("xyz_grid")]
        return SimpleNamespace(
            scripts=list(found),
            alwayson_scripts=found[:2],
            selectable_scripts=found[2:],
            callback_map={"a": 1},
        )

    host.scripts.scripts_txt2img, host.scripts.scripts_img2img = runner(), runner()
    assert remove_loaded(Decision(frozenset({"controlnet", "xyz_grid"}))) == ["controlnet", "xyz_grid"]
    for each in (host.scripts.scripts_txt2img, host.scripts.scripts_img2img):
        assert [s.filename for s in each.scripts] == ["/somewhere/lora_script.py"]
        assert [s.filename for s in each.alwayson_scripts] == ["/somewhere/lora_script.py"]
        assert each.selectable_scripts == []
        assert each.callback_map == {}
    assert remove_loaded(Decision(frozenset({"controlnet"}))) == []


def test_in_a_clone_of_the_repository_the_script_at_its_root_is_ours(
    host: Host, table: PatchTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = host.root / "extensions" / "flux-speedup"
    monkeypatch.setattr(pruning, "FOLDER", root / "extensions" / "flux-speedup")
    pruner = arm(table)
    assert "xyz_grid.py" not in host.names("scripts", ".py")
    assert pruner.decision is not None
