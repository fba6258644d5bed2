"""Imports between rooms point down, only `hosts` knows a WebUI, and the map names files that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "extensions" / "flux-speedup" / "flux_speedup"
MAP = REPOSITORY / "docs" / "architecture.md"
HOSTS = ("modules", "backend", "modules_forge", "ldm_patched")
GRADIO = ("hosts", "ui", "api")  # api: only to ask which login gradio has


def floors() -> dict[str, int]:
    """The floor of each room, as the map's table has it."""
    found: dict[str, int] = {}
    for line in MAP.read_text(encoding="utf-8").splitlines():
        row = re.match(r"\| (\d) \| (.+?) \|", line)
        if row is not None:
            for room in re.findall(r"`([a-z_]+)(?:\.py|/)`", row.group(2)):
                found[room] = int(row.group(1))
    return found


def imports() -> Iterator[tuple[str, str, Path, ast.stmt]]:
    """(room, room or package that it imports, file, statement), those for types alone left out."""
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for_types = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) in for_types:
                continue
            if isinstance(node, ast.Import):
                for name in node.names:
                    yield parts[0], name.name.split(".")[0], file, node
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield parts[0], str(node.module).split(".")[0], file, node
            elif isinstance(node, ast.ImportFrom):
                above = parts[: len(parts) - node.level]
                whole = [*above, *(node.module.split(".") if node.module else [])]
                for target in [whole[0]] if whole else [name.name for name in node.names]:
                    yield parts[0], target, file, node


def test_imports_point_down() -> None:
    floor = floors()
    assert floor["app"] > floor["ui"] > floor["hosts"] > floor["weights"] > floor["patching"]
    wrong = {
        (room, target, str(file.relative_to(PACKAGE)))
        for room, target, file, _ in imports()
        if target in floor and room in floor and room != target and floor[target] > floor[room]
    }
    assert wrong == set()


def test_every_room_is_on_the_map() -> None:
    there = {p.stem for p in PACKAGE.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    there |= {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
    assert there == set(floors())


def test_only_hosts_import_a_webui_and_only_rooms_with_a_page_gradio() -> None:
    found = {(room, target) for room, target, _, _ in imports()}
    assert {room for room, target in found if target in HOSTS} == {"hosts"}
    assert {room for room, target in found if target == "gradio"} <= set(GRADIO)


def test_the_map_names_files_that_exist() -> None:
    text = MAP.read_text(encoding="utf-8")
    named = re.findall(r"`(/?[a-z_0-9/]+\.(?:py|md|json))`", text)
    assert len(named) > 25
    missing = [
        name
        for name in named
        if not (REPOSITORY / name[1:] if name.startswith("/") else PACKAGE / name).exists()
        and name not in ("preload.py", "webui.py", "config.json")  # of every copy, of every host
    ]
    assert missing == []
