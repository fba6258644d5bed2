"""What every room's tests share: a Forge checkout, a free port, the browser, the second environment."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports gradio: no call home from a test.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Compiled once, as on any user's machine: a WebUI that compiles thousands of files takes a minute to start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Files run side by side, one a core: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if importlib.util.find_spec("hypothesis") is not None:
    from hypothesis import settings

    # How long one example takes says nothing on a machine that does other things as well.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")

from tests.browser import artifacts, browser  # noqa: F401

HERE = Path(__file__).resolve().parent
SLOW = ("integration", "attacks", "faults", "e2e")
"""Rooms that start WebUIs and browsers come first, in this order: no worker is left alone with them at the end."""
LONGEST = HERE / "attacks" / "test_models_on_forge.py"
"""Twenty models, one after the other in one process: it begins before all others."""
# What speaks to gradio: all of these tests run with both versions, marked or not.
BOTH_GRADIOS = (
    HERE / "unit" / "ui",
    HERE / "unit" / "test_api.py",
    HERE / "attacks" / "test_other_sites.py",
    HERE / "attacks" / "test_random_requests.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--both-gradios", action="store_true", help="only what must run with either gradio version"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path == place or place in item.path.parents for place in BOTH_GRADIOS):
            item.add_marker(pytest.mark.both_gradios)
    for mark, package in (("adetailer", "adetailer"), ("serve", "ray")):
        if importlib.util.find_spec(package) is None:
            others = [item for item in items if item.get_closest_marker(mark) is not None]
            config.hook.pytest_deselected(items=others)
            items[:] = [item for item in items if item.get_closest_marker(mark) is None]
    if config.getoption("--both-gradios"):
        others = [item for item in items if item.get_closest_marker("both_gradios") is None]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.get_closest_marker("both_gradios") is not None]
    rooms = {room: place for place, room in enumerate(SLOW)}
    items.sort(
        key=lambda item: (
            -1 if item.path == LONGEST else rooms.get(item.path.relative_to(HERE).parts[0], len(rooms))
        )
    )


@pytest.fixture(autouse=True)
def _as_fast_as_before() -> Iterator[None]:
    """Fails a test that has lowered the priority of this thread: all tests after it would crawl."""
    before = getattr(os, "nice", int)(0)
    yield
    assert getattr(os, "nice", int)(0) == before, "a background thread's work was called in this one"


@pytest.fixture(scope="session")
def forge_dir() -> Path:
    """A Forge checkout to read and start: FLUX_SPEEDUP_WEBUI, or ~/stable-diffusion-webui-forge."""
    named = os.environ.get("FLUX_SPEEDUP_WEBUI")
    folder = Path(named) if named else Path.home() / "stable-diffusion-webui-forge"
    if not (folder / "backend" / "memory_management.py").is_file():
        pytest.skip(f"no Forge checkout at {folder} (FLUX_SPEEDUP_WEBUI names another place)")
    return folder


@pytest.fixture(scope="session")
def neo_dir() -> Path:
    """A Forge Neo to start."""
    from tests.integration.other_hosts import checkout

    found = checkout("Forge Neo")
    if found is None:
        pytest.skip("no Forge Neo with its virtual environment at ~/sd-webui-forge-neo")
    return found


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
