"""What `./run --webui DIR` does to a folder, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launcher.install import InstallError, check, install, python_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "scripts" / "__pycache__").mkdir(parents=True)
    (folder / "preload.py").write_text("new")
    (folder / "scripts" / "x.py").write_text("x")
    (folder / "scripts" / "__pycache__" / "x.pyc").write_text("")
    return folder


@pytest.fixture
def extensions(tmp_path: Path) -> Path:
    folder = tmp_path / "webui" / "extensions"
    folder.mkdir(parents=True)
    return folder


def _tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_copies_everything_but_bytecode_and_leaves_nothing_else(source: Path, extensions: Path) -> None:
    install(extensions, source)
    assert _tree(extensions) == {
        "flux-speedup", "flux-speedup/preload.py", "flux-speedup/scripts", "flux-speedup/scripts/x.py",
    }  # fmt: skip


def test_replaces_an_older_copy_as_a_whole(source: Path, extensions: Path) -> None:
    old = extensions / "flux-speedup"
    old.mkdir()
    (old / "gone.py").write_text("")
    assert install(extensions, source) == old
    assert (old / "preload.py").read_text() == "new"
    assert not (old / "gone.py").exists()
    assert [path.name for path in extensions.iterdir()] == ["flux-speedup"]


def test_refuses_a_git_checkout_and_leaves_it_alone(source: Path, extensions: Path) -> None:
    checkout = extensions / "flux-speedup"
    (checkout / ".git").mkdir(parents=True)
    before = _tree(extensions)
    with pytest.raises(InstallError, match="git checkout"):
        install(extensions, source)
    assert _tree(extensions) == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_refuses_a_link(source: Path, extensions: Path) -> None:
    (extensions / "flux-speedup").symlink_to(source)
    with pytest.raises(InstallError, match="is a link"):
        install(extensions, source)


def test_a_copy_that_fails_leaves_the_older_one(tmp_path: Path, extensions: Path) -> None:
    old = extensions / "flux-speedup"
    old.mkdir()
    (old / "preload.py").write_text("old")
    with pytest.raises(InstallError, match="could not be written"):
        install(extensions, tmp_path / "nothing here")
    assert _tree(extensions) == {"flux-speedup", "flux-speedup/preload.py"}


def test_a_folder_that_is_no_webui_is_named(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="is no folder"):
        check(tmp_path / "missing")
    with pytest.raises(InstallError, match=r"has no launch\.py"):
        check(tmp_path)
    (tmp_path / "launch.py").touch()
    with pytest.raises(InstallError, match="no folder extensions"):
        check(tmp_path)
    (tmp_path / "extensions").mkdir()
    check(tmp_path)


@pytest.mark.parametrize("place", ["venv/bin/python", "venv/Scripts/python.exe"])
def test_takes_the_webuis_own_python(tmp_path: Path, place: str) -> None:
    assert python_of(tmp_path) == Path(sys.executable)
    python = tmp_path / place
    python.parent.mkdir(parents=True)
    python.touch()
    assert python_of(tmp_path) == python
