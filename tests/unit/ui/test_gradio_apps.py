"""Web apps of inner pages made when they are needed: run with both versions of gradio."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI

from flux_speedup.hosts.common import gradio_apps
from flux_speedup.patching.table import PatchTable, State
from tests.asking import ask

VERSION_3 = gr.__version__.startswith("3.")
needs_4 = pytest.mark.skipif(VERSION_3, reason="gradio 3 keeps its own behaviour")


@pytest.fixture
def table() -> Iterator[PatchTable]:
    made = PatchTable(logging.getLogger("flux_speedup.test"))
    made.add("lazy_apps", "", "", gradio_apps.changes())
    yield made
    made.put_back()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The Blocks that a real app was made for."""
    found: list[Any] = []
    real = gr.routes.App.create_app

    def create_app(blocks: Any, *args: Any, **kwargs: Any) -> Any:
        found.append(blocks)
        return real(blocks, *args, **kwargs)

    monkeypatch.setattr(gr.routes.App, "create_app", staticmethod(create_app))
    return found


def page() -> Any:
    with gr.Blocks(analytics_enabled=False) as outer:
        with gr.Blocks(analytics_enabled=False):
            gr.HTML("inner")
        gr.HTML("outer")
    outer.queue()
    return outer


def config_of(app: Any) -> dict[str, Any]:
    found: dict[str, Any] = ask(app, "GET", "/config").json()
    return found


@needs_4
def test_no_app_is_made_until_it_is_used_and_then_one(table: PatchTable, made: list[Any]) -> None:
    built = page()
    assert made == []
    assert isinstance(built.app, FastAPI)
    assert made == []
    assert "outer" in str(config_of(built.app))
    assert made == [built]
    assert type(built.app) is gr.routes.App
    assert len(built.app.routes) > 30
    assert made == [built]


@needs_4
def test_what_is_set_and_read_is_the_real_apps(table: PatchTable, made: list[Any]) -> None:
    built = page()
    kept = built.app
    kept.something = 3
    assert built.app.something == kept.something == 3
    assert kept.get_blocks() is built
    assert made == [built]


LAUNCH = """
import logging
import gradio as gr
import httpx
from flux_speedup.hosts.common import gradio_apps
from flux_speedup.patching.table import PatchTable

PatchTable(logging.getLogger("x")).add("lazy_apps", "", "", gradio_apps.changes())
with gr.Blocks(analytics_enabled=False) as page:
    gr.HTML("outer")
page.queue()
before = page.app
app, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", show_api=False)
assert type(app) is gr.routes.App and page.app is app and before is not app
assert "outer" in httpx.get(f"{address}config", trust_env=False).text
assert type(before) is gradio_apps.LazyApp and vars(before)["_lazy"]["app"] is None
page.close()
"""


@needs_4
def test_launch_serves_an_app_of_its_own() -> None:
    # A process of its own: gradio's server leaves sockets behind.
    environment = {
        **os.environ,
        "PYTHONPATH": next(path for path in sys.path if path.endswith("flux-speedup")),
    }
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@needs_4
def test_put_back_gradio_makes_them_at_once_and_what_was_left_unmade_still_works(
    table: PatchTable, made: list[Any]
) -> None:
    before = page()
    table.put_back()
    assert gr.blocks.routes is gr.routes
    page()
    assert len(made) > 2
    assert "outer" in str(config_of(before.app))


@needs_4
def test_other_callers_get_a_real_app(table: PatchTable) -> None:
    built = page()
    assert type(gr.routes.App.create_app(built)) is gr.routes.App
    assert type(gr.blocks.routes.App.create_app(built, app_kwargs={})) is gr.routes.App
    assert gr.blocks.routes.App.build_proxy_request is gr.routes.App.build_proxy_request
    assert gr.blocks.routes.VERSION == gr.routes.VERSION


def test_where_apps_and_queues_depend_on_each_other_nothing_is_changed(
    table: PatchTable, made: list[Any]
) -> None:
    (outcome,) = table.outcomes()
    assert outcome.state is (State.SKIPPED if VERSION_3 else State.APPLIED)
    if VERSION_3:
        assert "depend on each other" in outcome.why
        assert type(page().app) is gr.routes.App
        assert made
