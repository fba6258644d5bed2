"""Who refers to what: read from real files of extensions made for the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux_speedup.pruning import references
from flux_speedup.pruning.surroundings import Folder

WORDS = frozenset({"xyz_grid", "lib_controlnet", "sd_forge_controlnet"})


def extension(root: Path, name: str, **files: str) -> Folder:
    for file, text in files.items():
        path = root / name / file.replace("__", "/")
        path = path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    scripts = tuple(sorted(file.stem for file in (root / name / "scripts").glob("*.py")))
    return Folder(name, str(root / name), False, True, scripts, packages=references.packages(root / name))


HYPERTILE = 'grid = [x for x in data if x.script_class.__module__ == "xyz_grid.py"][0].module\n'
GUARDED = 'if module == "xyz_grid.py":\n    xyz_grid = module\nif xyz_grid is None:\n    pass\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HYPERTILE, {"xyz_grid"}),
        (GUARDED, set()),
        ("from lib_controlnet import external_code\n", {"lib_controlnet"}),
        ("import lib_controlnet.external_code\n", {"lib_controlnet"}),
        ("load('lib_controlnet.external_code')\n", {"lib_controlnet"}),
        ("import my_lib_controlnet\n", set()),
        ("# xyz_grid is nice\n", set()),
        ("# as in 'xyz_grid'\n", set()),
        ('"""Works with "xyz_grid"."""\n\ndef f():\n    """Not with xyz_grid."""\n', set()),
        ("import os, lib_controlnet\n", {"lib_controlnet"}),
        ("from extensions import (\n    a,\n    lib_controlnet as c,\n)\n", {"lib_controlnet"}),
        ("import lib_controlnet  # not xyz_grid\n# lib_controlnet is None\n", {"lib_controlnet"}),
        ("x = f'{y}/xyz_grid.py'\n", {"xyz_grid"}),
        ("xyz_grid = 3\nuse(xyz_grid)\n", set()),
        ("print 'xyz_grid'\n", {"xyz_grid"}),
        ("name = 'sd_forge_controlnet'\n", {"sd_forge_controlnet"}),
        ("name = 'sd_forge_controlnet_example'\n", set()),
    ],
)
def test_quoted_or_imported_and_not_looked_for(tmp_path: Path, text: str, found: set[str]) -> None:
    folder = extension(tmp_path, "asks", scripts__a="pass\n", inner__deep__b=text)
    assert references.find([folder], WORDS) == dict.fromkeys(found, "asks")


def test_adetailer_does_without(tmp_path: Path) -> None:
    folder = extension(
        tmp_path,
        "adetailer",
        **{"scripts__!adetailer": HYPERTILE, "controlnet_ext__a": "import lib_controlnet\n"},
    )
    assert references.find([folder], WORDS) == {}


def test_an_extension_with_a_package_of_that_name_means_its_own(tmp_path: Path) -> None:
    own = extension(tmp_path, "own", scripts__a="import lib_controlnet\n", lib_controlnet__x="pass\n")
    assert own.packages == ("lib_controlnet",)
    assert references.find([own], WORDS) == {}


def test_one_without_scripts_is_not_read(tmp_path: Path) -> None:
    assert references.find([extension(tmp_path, "space", app="import lib_controlnet\n")], WORDS) == {}


def test_broken_huge_and_missing_files_are_passed_over(tmp_path: Path) -> None:
    folder = extension(tmp_path, "odd", scripts__a="pass\n")
    (tmp_path / "odd" / "scripts" / "b.py").write_bytes(b"\xff\xfe import lib_controlnet\n")
    (tmp_path / "odd" / "huge.py").write_text("import xyz_grid\n" + "#" * references.MAX_BYTES)
    gone = Folder("gone", str(tmp_path / "gone"), False, True, ("a",))
    assert references.find([folder, gone], WORDS) == {"lib_controlnet": "odd"}
    assert references.packages(tmp_path / "gone") == ()


def test_packages_are_what_others_can_import(tmp_path: Path) -> None:
    folder = extension(
        tmp_path, "x", scripts__a="", lib_x__b="", helper="", install="", preload="", utils__c=""
    )
    assert folder.packages == ("helper", "lib_x")


def test_of_many_files_the_scripts_are_read_first(tmp_path: Path) -> None:
    others = {f"a{number}": "pass\n" for number in range(references.MAX_FILES)}
    folder = extension(tmp_path, "big", **others, scripts__z="import lib_controlnet\n")
    assert references.find([folder], WORDS) == {"lib_controlnet": "big"}
