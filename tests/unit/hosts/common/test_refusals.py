"""The WebUI's API routes with ours around their methods: FastAPI sees the same parameters, refusals are 422."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from flux_speedup.hosts.common import refusals
from flux_speedup.patching.table import PatchTable, State
from flux_speedup.pruning.catalog import LEFT_OUT
from flux_speedup.pruning.decision import Decision
from tests.asking import ask

ALL = Decision(frozenset(LEFT_OUT))


class Client:
    """Asks the app without a server."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def get(self, path: str) -> httpx.Response:
        return ask(self._app, "GET", path)

    def post(self, path: str, json: Any) -> httpx.Response:
        return ask(self._app, "POST", path, json=json)


class Generation(BaseModel):
    script_name: str = ""
    alwayson_scripts: dict[str, Any] = {}
    override_settings: dict[str, Any] = {}
    enable_hr: bool = False
    hr_upscaler: str = ""
    infotext: str = ""


class Extras(BaseModel):
    gfpgan_visibility: float = 0
    upscaler_1: str = "None"


class Api:
    """Its methods and routes as in Forge, reForge and A1111."""

    def __init__(self, app: FastAPI) -> None:
        app.add_api_route("/txt2img", self.text2imgapi, methods=["POST"])
        app.add_api_route("/img2img", self.img2imgapi, methods=["POST"])
        app.add_api_route("/extras", self.extras_single_image_api, methods=["POST"])

    def apply_infotext(self, request: Any, tabname: str, *, script_runner: Any = None) -> dict[str, str]:
        if request.infotext == "hires":
            request.enable_hr, request.hr_upscaler = True, "SwinIR 4x"
        return (
            {"Steps": "2", **({"sag_enabled": "True"} if request.infotext == "sag" else {})}
            if request.infotext
            else {}
        )

    def text2imgapi(self, txt2imgreq: Generation) -> dict[str, Any]:
        self.apply_infotext(txt2imgreq, "txt2img", script_runner=None)
        return {"served": txt2imgreq.alwayson_scripts}

    def img2imgapi(self, img2imgreq: Generation) -> dict[str, Any]:
        return {"served": img2imgreq.alwayson_scripts}

    def extras_single_image_api(self, req: Extras) -> dict[str, Any]:
        return {"served": req.upscaler_1}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("modules.api.api")
    made.Api = type("Api", (), dict(vars(Api)))  # type: ignore[attr-defined]
    shared = ModuleType("modules.shared")
    shared.opts = SimpleNamespace(data={"upscaler_for_img2img": None})  # type: ignore[attr-defined]
    shared.sd_upscalers = [SimpleNamespace(name="Lanczos")]  # type: ignore[attr-defined]
    for name, found in {"modules.api.api": made, "modules.shared": shared}.items():
        monkeypatch.setitem(sys.modules, name, found)
    for name in ("modules", "modules.api"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    return made


@pytest.fixture
def table() -> Iterator[PatchTable]:
    made = PatchTable(logging.getLogger("flux_speedup.test"))
    yield made
    made.put_back()


@pytest.fixture
def client(module: ModuleType, table: PatchTable) -> Client:
    table.add("refusals", "", "", refusals.changes(lambda: ALL))
    app = FastAPI()
    module.Api(app)
    return Client(app)


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/txt2img", {"script_name": "Loopback"}, "loopback"),
        ("/img2img", {"override_settings": {"upscaler_for_img2img": "SwinIR 4x"}}, "swinir_model"),
        ("/txt2img", {"alwayson_scripts": {"ControlNet": {"args": [{}]}}}, "controlnet"),
        ("/txt2img", {"infotext": "hires"}, "swinir_model"),
        ("/txt2img", {"infotext": "sag"}, "forge_sag"),
        ("/extras", {"gfpgan_visibility": 0.3}, "postprocessing_gfpgan"),
    ],
)
def test_refused_with_422(client: Client, path: str, body: dict[str, Any], says: str) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert f"({says})" in answer.json()["detail"]


def test_served_with_idle_units_taken_out(client: Client) -> None:
    mine = {"args": [1]}
    body = {"alwayson_scripts": {"ControlNet": {"args": [{"enabled": False}]}, "Mine": mine}}
    assert client.post("/txt2img", json=body).json() == {"served": {"Mine": mine}}
    assert client.post("/img2img", json={}).json() == {"served": {}}
    assert client.post("/txt2img", json={"infotext": "plain"}).status_code == 200
    assert client.post("/txt2img", json={"hr_upscaler": "SwinIR 4x"}).status_code == 200
    assert client.post("/extras", json={"upscaler_1": "Lanczos"}).json() == {"served": "Lanczos"}


def test_put_back_and_with_nothing_left_out_the_webui_answers(module: ModuleType, table: PatchTable) -> None:
    before = dict(vars(module.Api))
    decided: list[Decision | None] = [None]
    table.add("refusals", "", "", refusals.changes(lambda: decided[0]))
    app = FastAPI()
    module.Api(app)
    client = Client(app)
    body = {"script_name": "Loopback"}
    assert client.post("/txt2img", json=body).status_code == 200
    decided[0] = ALL
    assert client.post("/txt2img", json=body).status_code == 422
    table.put_back()
    assert client.post("/txt2img", json=body).status_code == 200
    assert dict(vars(module.Api)) == before


def test_an_api_without_these_methods_is_skipped_and_named(module: ModuleType, table: PatchTable) -> None:
    module.Api = object  # type: ignore[attr-defined]
    table.add("refusals", "", "", refusals.changes(lambda: ALL))
    (outcome,) = table.outcomes()
    assert outcome.state is State.SKIPPED
    assert "text2imgapi" in outcome.why


def test_routes_that_are_gone_say_why_once_and_those_that_are_there_stay() -> None:
    app = FastAPI()
    assert refusals.answer_missing_routes(app, ALL) == ["/controlnet/"]
    assert refusals.answer_missing_routes(app, ALL) == []
    answer = Client(app).get("/controlnet/version")
    assert answer.status_code == 404
    assert "--flux-speedup-keep controlnet" in answer.json()["detail"]
    there = FastAPI()
    there.get("/controlnet/version")(lambda: {"version": 3})
    assert refusals.answer_missing_routes(there, ALL) == []
    assert Client(there).get("/controlnet/version").json() == {"version": 3}
