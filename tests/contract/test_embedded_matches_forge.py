"""What embedded_webui offers is there in the real Forge, under the same names and with the same signatures.

Both sides are read as source, neither is imported. Ours may offer less than Forge, never something else.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pytest

EMBEDDED = Path(__file__).resolve().parents[2] / "embedded_webui"
SHARED_FILES = [
    path.relative_to(EMBEDDED).as_posix()
    for folder in ("backend", "modules", "modules_forge")
    for path in sorted((EMBEDDED / folder).rglob("*.py"))
    if path.name != "__init__.py"
]
# Where ours keeps in one file what Forge has in another.
ELSEWHERE = {
    "modules/shared.py": {"State": "modules/shared_state.py", "queue_lock": "modules/call_queue.py"},
    "launch.py": {"list_extensions": "modules/launch_utils.py", "start": "modules/launch_utils.py"},
}
# Ours alone, on purpose.
OWN = {
    "backend/args.py": {"group", "flag"},
    "backend/memory_management.py": {"simulated", "SIMULATED_BYTES"},
    "modules/api/api.py": {"timings"},
}
OWN_ROUTES = {"/sdapi/v1/timings"}
# Values that fit a tiny model; the fields are Forge's.
OWN_DEFAULTS = {"modules/processing.py"}


@dataclass
class Surface:
    """What a source file offers: signatures of functions, members of classes, other names."""

    functions: dict[str, str] = field(default_factory=dict)
    classes: dict[str, set[str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def all(self) -> set[str]:
        return {*self.functions, *self.classes, *self.names}


def read(path: Path) -> Surface:
    """Everything public at the top level of a file; methods are functions called `Class.method`."""
    found = Surface()
    with warnings.catch_warnings(action="ignore"):  # Forge's own regular expressions
        tree = ast.parse(path.read_text("utf-8"))
    for node in _statements(tree):
        if isinstance(node, ast.FunctionDef):
            found.functions[node.name] = signature(node)
            parts = (part for part in ast.walk(node) if isinstance(part, ast.Global))
            found.names |= {name for part in parts for name in part.names}
        elif isinstance(node, ast.ClassDef):
            found.classes[node.name] = _members(node)
            methods = (item for item in node.body if isinstance(item, ast.FunctionDef))
            found.functions |= {f"{node.name}.{method.name}": signature(method) for method in methods}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found.names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        else:
            found.names |= _assigned(node)
            found.classes |= _functional_enum(node)
    return found


def signature(function: ast.FunctionDef) -> str:
    """The parameters without their annotations."""
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        argument.annotation = None
    return ast.unparse(arguments)


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Top-level statements and those below a top-level if, try, for or with."""
    found: list[ast.stmt] = []
    left = list(tree.body)
    while left:
        node = left.pop(0)
        found.append(node)
        if isinstance(node, (ast.If, ast.Try, ast.For, ast.With)):
            left += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found


def _assigned(node: ast.AST) -> set[str]:
    """Names an assignment gives a value to; not those inside a comprehension or a function."""
    match node:
        case ast.Assign(targets=targets):
            stored = targets
        case ast.AnnAssign(target=target) | ast.For(target=target):
            stored = [target]
        case _:
            stored = []
    parts = (part for target in stored for part in ast.walk(target))
    return {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def _members(node: ast.ClassDef) -> set[str]:
    """Methods, class attributes, and what is set on `self`."""
    found = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    for item in node.body:
        found |= _assigned(item)
    for part in ast.walk(node):
        match part:
            case ast.Attribute(ast.Name("self"), name, ast.Store()):
                found.add(name)
    return found


def _functional_enum(node: ast.stmt) -> dict[str, set[str]]:
    match node:
        case ast.Assign([ast.Name(name)], ast.Call(ast.Name("Enum"), [_, ast.List(members)])):
            return {name: {member.value for member in members if isinstance(member, ast.Constant)}}
    return {}


def differences(ours: Path, theirs: Path, own: Collection[str] = (), *, defaults: bool = True) -> list[str]:
    """One line for every public name of `ours` that `theirs` has not, or has otherwise."""
    mine, other = read(ours), read(theirs)
    absent = {name for name in mine.all().difference(own) if name.split(".")[0] not in other.all()}
    found = [f"{name}: not there" for name in _public(absent)]
    for name in _public(set(mine.functions) & set(other.functions)):
        if mine.functions[name] != other.functions[name] and _compared(name):
            found.append(f"{name}({mine.functions[name]}) is {name}({other.functions[name]})")
    for name in _public(set(mine.classes) & set(other.classes)):
        missing = _public((mine.classes[name] - other.classes[name]).difference(own))
        found += [f"{name}.{member}: not there" for member in missing]
    return found if defaults else [line for line in found if " is " not in line]


def _public(names: set[str]) -> list[str]:
    return sorted(name for name in names if not name.split(".")[-1].startswith("_") or "__init__" in name)


def _compared(name: str) -> bool:
    return not name.split(".")[-1].startswith("__") or name.endswith("__init__")


def _local(path: Path) -> set[str]:
    """Imported modules and loop variables: what a file uses, not what it offers."""
    tree = ast.parse(path.read_text("utf-8"))
    imported = {(a.asname or a.name).split(".")[0] for node in ast.walk(tree)
                if isinstance(node, (ast.Import, ast.ImportFrom)) for a in node.names}  # fmt: skip
    loops = {name for node in tree.body if isinstance(node, ast.For) for name in _assigned(node)}
    return imported | loops


@pytest.mark.forge
@pytest.mark.parametrize("file", ["launch.py", *SHARED_FILES])
def test_every_name_and_signature_is_forges(file: str, forge_dir: Path) -> None:
    theirs = forge_dir / file
    assert theirs.is_file(), f"Forge has no {file}"
    moved = ELSEWHERE.get(file, {})
    ours = EMBEDDED / file
    ignored = _local(ours) | OWN.get(file, set()) | set(moved)
    found = [
        line
        for line in differences(ours, theirs, ignored, defaults=file not in OWN_DEFAULTS)
        if line.split(".")[0].split(":")[0].split("(")[0] not in moved
    ]
    for name, place in moved.items():
        everything = differences(ours, forge_dir / place)
        found += [line for line in everything if re.match(rf"{name}\b", line)]
    assert found == []


def _options(folder: Path, *files: str) -> dict[str, str]:
    """Option name -> its default, from dictionaries that map names to OptionInfo(default, ...)."""
    found = {}
    for file in files:
        for node in ast.walk(ast.parse((folder / file).read_text("utf-8"))):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
                        value = value.func.value
                    if isinstance(value, ast.Call) and value.args and isinstance(key, ast.Constant):
                        found[key.value] = ast.unparse(value.args[0])
    return found


@pytest.mark.forge
def test_every_option_is_forges_with_its_default(forge_dir: Path) -> None:
    theirs = _options(forge_dir, "modules/shared_options.py", "modules_forge/shared_options.py")
    tree = ast.parse((EMBEDDED / "modules" / "shared.py").read_text("utf-8"))
    dictionary = next(node for node in ast.walk(tree) if isinstance(node, ast.Dict) and len(node.keys) > 5)
    pairs = zip(dictionary.keys, dictionary.values, strict=True)
    ours = {ast.literal_eval(key): ast.unparse(value) for key, value in pairs if key}
    assert "forge_inference_memory" in ours
    assert {key: theirs.get(key) for key in ours} == ours


def _strings(folder: Path, pattern: str, *files: str) -> set[str]:
    text = "\n".join((folder / file).read_text("utf-8") for file in files)
    return set(re.findall(pattern, text))


@pytest.mark.forge
def test_every_flag_is_forges(forge_dir: Path) -> None:
    files, pattern = ("backend/args.py", "modules/cmd_args.py"), r"[\"'](--[a-z0-9-]+)[\"']"
    ours = _strings(EMBEDDED, pattern, *files)
    assert "--always-low-vram" in ours
    assert ours - _strings(forge_dir, pattern, *files) == set()


@pytest.mark.forge
def test_every_route_is_forges(forge_dir: Path) -> None:
    theirs = _strings(forge_dir, r"\"(/sdapi/v1/[a-z0-9-]+)\"", "modules/api/api.py")
    text = (EMBEDDED / "modules" / "api" / "api.py").read_text("utf-8")
    ours = {f"/sdapi/v1/{name}" for name in re.findall(r"\(\"([a-z0-9-]+)\", \"(?:GET|POST)\"", text)}
    assert "/sdapi/v1/txt2img" in ours
    assert ours - theirs == OWN_ROUTES


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        ("def f(a, b=1): pass\nclass C:\n def m(self, x): pass\nK = 1", []),
        ("def g(a, b=1): pass\nclass C:\n def m(self, x): pass\nK = 1", ["f: not there"]),
        ("def f(a, c=1): pass\nclass C:\n def m(self, x): pass\nK = 1", ["f(a, b=1) is f(a, c=1)"]),
        ("def f(a, b=2): pass\nclass C:\n def m(self, x): pass\nK = 1", ["f(a, b=1) is f(a, b=2)"]),
        ("def f(a, *, b=1): pass\nclass C:\n def m(self, x): pass\nK = 1", ["f(a, b=1) is f(a, *, b=1)"]),
        ("def f(a, b=1): pass\nclass C:\n def n(self, x): pass\nK = 1", ["C.m: not there"]),
        ("def f(a, b=1): pass\nclass C:\n def m(self, y): pass\nK = 1", ["C.m(self, x) is C.m(self, y)"]),
        ("def f(a, b=1): pass\nclass C:\n def m(self, x): pass\nL = 1", ["K: not there"]),
    ],
)
def test_the_comparison_sees_what_differs(tmp_path: Path, theirs: str, told: list[str]) -> None:
    ours = "def f(a: int, b=1): pass\nclass C:\n def m(self, x): pass\nK = 1\n_p = 2"
    (tmp_path / "ours.py").write_text(ours)
    (tmp_path / "theirs.py").write_text(theirs)
    assert differences(tmp_path / "ours.py", tmp_path / "theirs.py") == told
