"""The API: what it answers, and whom."""

from __future__ import annotations

import base64
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

with warnings.catch_warnings():
    # starlette imports it by its old name, and the package warns of that.
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    import multipart  # noqa: F401

from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPBasic

from flux_speedup.api import Access, gradio_login, register
from flux_speedup.control.control import Control
from flux_speedup.control.rules import Rules
from flux_speedup.facts.view import Checkpoint, ConfigRow, MemoryUse, StreamedUse, Value
from flux_speedup.hosts.common.credentials import Credentials
from flux_speedup.hosts.common.forms import FormUse
from flux_speedup.hosts.common.inside import Forbidden, Model
from flux_speedup.hosts.common.names import Names
from flux_speedup.local_models.report import LocalWeight, WeightState
from flux_speedup.patching.table import Outcome, State
from flux_speedup.stats.events import Event
from flux_speedup.stats.first_image import FirstImage
from flux_speedup.stats.machine import Machine, Savings
from flux_speedup.stats.requests import Pass, Steps
from flux_speedup.stats.requests import Request as ImageRequest
from flux_speedup.weights.packed.progress import FileProgress, PackedNow
from tests.asking import ask
from tests.fake_view import FakeView
from tests.waiting import PATIENCE_S

V1 = "/flux-speedup/v1"
STATUS, STATS, CONFIG = (f"{V1}/{name}" for name in ("status", "stats", "config"))
READS = tuple(
    f"{V1}/{name}"
    for name in ("requests", "models", "machine", "metrics", "local_weights", "checkpoints", "packed")
)
WRITES = tuple(f"{V1}/{name}" for name in ("measure", "drop", "settings", "remove_traces", "pack"))
OPEN = Access(None, None)
ODD = 'it\'s "odd"\n🚀 \ud83d\udcff\0'
FREED = "33.8 GB of VRAM are free again."
TIER_WHY = FakeView().status().tier_why
WRONG = "Incorrect username or password"


def shown(name: str = "flux1-dev.safetensors", *, tier: str = "large") -> FakeView:
    """Ten moves, a stage of the start, two requests, and one of everything else, all called `name`."""
    view = FakeView()
    view.card, view.tier = name, tier
    view.outcomes = (Outcome("streams", name, State.APPLIED, name),)
    view.kept = [Event("move", name, 10**9 * n, 0.5, "page cache", "GPU", at=float(n)) for n in range(10)]
    view.kept.append(Event("startup", "total", 0, math.nan, "", "", at=math.inf, detail=name))
    values: list[Value] = [name, 1, 1.0, True, None, math.inf]
    view.rows = [ConfigRow(f"key {n}", value, "user file") for n, value in enumerate(values)]
    parts = {"load": 0.5, "sampling": 2.0}
    passes = (Pass(name, 2.5, parts, Steps(8, 0.25, 0.05, 10_000_000_000)),)
    newest = ImageRequest(7, "txt2img", "API", 5.0, 2.5, parts, passes, 24, 1, running=True)
    view.made = [newest, ImageRequest(6, "img2img", "page", math.inf, 0.0, {}, failed=True)]
    view.first, view.saved = FirstImage(9.5, 30, 20, 0, 0.5), Savings(12.5, 2.5, False, name)
    streamed = StreamedUse(name, 10, 14, 3, 2, "pinned memory")
    view.used = MemoryUse(((name, 24),), 30, 80, None, 4, 0, 100, 200, (streamed,), 5, 3)
    view.built = [Model("in use", name, "in use", 3, 2, 1, (FormUse(name, "bf16", "file", 7, 24),))]
    view.weights = [LocalWeight(name, "adetailer", WeightState.REFUSED, name, 6, name)]
    view.measured = Machine(5.0, name, disk=1.5, bus=25.0)
    view.found = {"in use": 3, "kept": 1}
    view.there = [Checkpoint((name, "flux"), "card", 24, 0.5, 0.0), Checkpoint((), "disk", 24, None, None)]
    return view


class Settings:
    """What is done with options, written down; `why` nobody may change anything."""

    def __init__(self, why: str | None = None, error: str | None = None) -> None:
        self.why = why
        self.error = error
        self.taken: list[Mapping[str, str]] = []

    def set(self, values: Mapping[str, str]) -> None:
        if self.error is not None:
            raise Forbidden(self.error)
        self.taken.append(values)

    def control(self, view: FakeView | None = None, names: Names = Names()) -> Control:  # noqa: B008
        view = view or shown()
        acts: Any = SimpleNamespace(
            may=lambda: None,
            set_options=self.set,
            drop=view.drop,
            remove_traces=lambda folder: f"removed, folder too: {folder}",
            measure=view.measure,
            cancel_measuring=view.cancel_measuring,
            pack=view.pack,
        )
        return Control(acts, Rules(lambda: names, lambda: self.why))


def made(view: FakeView | None = None, access: Access = OPEN, settings: Settings | None = None) -> FastAPI:
    app = FastAPI()
    view = view or shown()
    register(app, view, access, (settings or Settings()).control(view))
    return app


def get(app: FastAPI, path: str, **options: Any) -> httpx.Response:
    return ask(app, "GET", path, **options)


def post(app: FastAPI, path: str, body: object, **options: Any) -> httpx.Response:
    return ask(app, "POST", path, json=body, **options)


def basic(credentials: bytes) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(credentials).decode()}


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def test_status() -> None:
    name = "flux1-dev.safetensors"
    assert get(made(), STATUS).json() == {
        "version": "0.1.0",
        "host": "Forge",
        "enabled": True,
        "card": name,
        "tier": "large",
        "tier_why": TIER_WHY,
        "simulated": False,
        "outcomes": [{"item": "streams", "title": name, "state": "applied", "why": name}],
    }


def test_stats() -> None:
    found = get(made(), STATS, params={"kind": "move", "limit": 1}).json()
    assert found == {
        "simulated": False,
        "events": [
            {
                "kind": "move",
                "what": "flux1-dev.safetensors",
                "bytes": 9 * 10**9,
                "seconds": 0.5,
                "source": "page cache",
                "target": "GPU",
                "at": 9.0,
                "detail": "",
                "rate_gb_s": 18.0,
            }
        ],
        "totals": {
            "move": {"count": 10, "bytes": 45 * 10**9, "seconds": 5.0, "rate_gb_s": 9.0},
            "startup": {"count": 1, "bytes": 0, "seconds": None, "rate_gb_s": None},
        },
        "next_offset": 1,
    }


def test_config_keeps_the_types() -> None:
    rows = get(made(), CONFIG).json()
    assert [(row["key"], row["source"]) for row in rows] == [(f"key {n}", "user file") for n in range(6)]
    assert json.dumps([row["value"] for row in rows]) == '["flux1-dev.safetensors", 1, 1.0, true, null, null]'


def test_requests_models_and_machine() -> None:
    app = made()
    parts = {"load": 0.5, "sampling": 2.0}
    name = "flux1-dev.safetensors"
    steps = {"count": 8, "seconds": 0.25, "waited": 0.05, "bytes": 10_000_000_000}
    assert get(app, READS[0]).json() == {
        "simulated": False,
        "requests": [
            {
                "key": "5.000000-7",
                "number": 7,
                "here": True,
                "kind": "txt2img",
                "via": "API",
                "began": 5.0,
                "seconds": 2.5,
                "parts": parts,
                "passes": [
                    {"name": name, "seconds": 2.5, "parts": parts, "steps": {**steps, "rate_gb_s": 40.0}}
                ],
                "bytes": 24,
                "images": 1,
                "running": True,
                "failed": False,
            },
            {
                "key": "inf-6",
                "number": 6,
                "here": True,
                "kind": "img2img",
                "via": "page",
                "began": None,
                "seconds": 0.0,
                "parts": {},
                "passes": [],
                "bytes": 0,
                "images": 0,
                "running": False,
                "failed": True,
            },
        ],
        "savings": {"since_start": 12.5, "in_request": 2.5, "estimated": False, "how": name},
        "first_image": {
            "waited_for": "disk",
            "start": 9.5,
            "wanted": 30,
            "read": 20,
            "cold": 0,
            "models": 0.5,
        },
    }
    assert len(get(app, READS[0], params={"limit": 1}).json()["requests"]) == 1
    streamed = {"resident": 10, "coming": 14, "ring": 3, "held": 2}
    form = {"component": name, "form": "bf16", "way": "file", "count": 7, "bytes": 24, "why": ""}
    sizes = {"file_bytes": 3, "device_bytes": 2, "ram_bytes": 1}
    assert get(app, READS[1]).json() == [
        {"key": "in use", "name": name, "where": "in use", **sizes, "forms": [form]}
    ]
    assert get(app, READS[2]).json() == {
        "measured": {
            "at": 5.0,
            "device": name,
            "disk": 1.5,
            "page_cache": None,
            "bus": 25.0,
            "host_load": None,
            "host_unload": None,
        },
        "measuring": {"state": "idle", "share": 0.0, "doing": "", "why": ""},
        "memory": {
            "vram_by_model": [{"component": name, "bytes": 24}],
            "vram_used": 30,
            "vram_total": 80,
            "page_cache": None,
            "anonymous": 4,
            "pinned": 0,
            "registered": 3,
            "ram_available": 100,
            "ram_total": 200,
            "streamed": [{"component": name, **streamed, "source": "pinned memory"}],
            "inference": 5,
        },
    }
    view = shown()
    view.measured = None
    assert get(made(view), READS[2]).json()["measured"] is None


def test_local_weights() -> None:
    (weight,) = get(made(shown()), READS[4]).json()
    assert (weight["kind"], weight["state"], weight["size"]) == ("adetailer", "refused", 6)
    assert weight["name"] == weight["path"] == weight["why"]


def test_packed_files_and_how_to_stop_making_them() -> None:
    view = shown()
    app = made(view)
    view.made_packed = PackedNow(
        "x", True, False, 5, 9, (FileProgress("a", 4, 3, "waiting", "for its turn"),)
    )
    told = get(app, READS[6]).json()
    assert told == {
        "says": "x",
        "on": True,
        "stopped": False,
        "taken": 5,
        "limit": 9,
        "files": [{"name": "a", "bytes": 4, "done": 3, "state": "waiting", "why": "for its turn"}],
    }
    assert post(app, WRITES[4], {"stop": True}).json() == {**told, "stopped": True}
    assert post(app, WRITES[4], {}).json() == told
    assert view.calls == [("pack", (False,)), ("pack", (True,))]
    assert post(app, WRITES[4], {"stops": True}).status_code == 422
    view.refused = "packed weights are off"
    assert post(app, WRITES[4], {}).status_code == 409


def test_a_router_learns_where_each_checkpoint_is() -> None:
    names = ["flux1-dev.safetensors", "flux"]
    assert get(made(), READS[5]).json() == [
        {"names": names, "where": "card", "bytes": 24, "cached": 0.5, "seconds": 0.0},
        {"names": [], "where": "disk", "bytes": 24, "cached": None, "seconds": None},
    ]


def test_metrics_are_in_the_format_of_prometheus() -> None:
    answer = get(made(shown(ODD)), READS[3])
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    odd = 'it\'s \\"odd\\"\\n🚀 \\\\ud83d\\\\udcff\0'
    for line in (
        'flux_speedup_info{version="0.1.0",host="Forge",tier="large"} 1',
        'flux_speedup_events_total{kind="move"} 10',
        'flux_speedup_bytes_total{kind="move"} 45000000000',
        'flux_speedup_last_request_seconds{part="load"} 0.5',
        f'flux_speedup_vram_model_bytes{{component="{odd}"}} 24',
        "flux_speedup_saved_seconds 12.5",
        'flux_speedup_requests_total{checkpoint="kept"} 1',
        'flux_speedup_measured_bytes_per_second{way="bus"} 25000000000',
        'flux_speedup_ram_bytes{kind="registered"} 3',
        f'flux_speedup_last_request_step_seconds{{pass="{odd}"}} 0.25',
        f'flux_speedup_last_request_step_waited_seconds{{pass="{odd}"}} 0.05',
        f'flux_speedup_last_request_step_bytes{{pass="{odd}"}} 10000000000',
        f'flux_speedup_streamed_bytes{{component="{odd}",kind="coming"}} 14',
        "# TYPE flux_speedup_saved_seconds gauge",
    ):
        assert line in lines, line
    # What is no number is left out, with nothing in its place.
    assert 'flux_speedup_seconds_total{kind="startup"}' not in answer.text
    assert 'ram_bytes{kind="page_cache"}' not in answer.text
    samples = [line for line in lines if not line.startswith("#")]
    assert all(float(line.rsplit(" ", 1)[1]) >= 0 for line in samples)


def test_what_can_be_done() -> None:
    settings = Settings()
    app = made(settings=settings)
    assert post(app, WRITES[0], {}).json()["state"] == "running"
    assert post(app, WRITES[0], {"cancel": True}).json()["state"] == "cancelled"
    assert post(app, WRITES[1], {"key": "abc"}).json() == {"done": "Forgot abc: 0.9 GB of RAM."}
    assert post(app, WRITES[1], {"key": None}).json() == {"done": FREED}
    assert post(app, WRITES[2], {"tier": "large", "flux_speedup_streams": "off"}).status_code == 200
    assert post(app, WRITES[2], {}).status_code == 200
    assert post(app, WRITES[3], {"statistics": True}).json() == {"done": "removed, folder too: True"}
    assert settings.taken == [{"flux_speedup_tier": "large", "flux_speedup_streams": "off"}, {}]


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        (WRITES[0], {}, 409, "an image is being made"),
        (WRITES[1], {"key": "abc"}, 409, "an image is being made"),
        (WRITES[2], {"outdir_samples": "/"}, 400, "flux_speedup_outdir_samples is no option of Flux Speedup"),
        (WRITES[2], {"streams": "on", "tier": "huge"}, 400, "flux_speedup_tier = 'huge' is not one of"),
        (WRITES[2], {"tier": "large"}, 403, "changing settings is disabled"),
    ],
)
def test_what_cannot_be_done_says_why(path: str, body: object, status: int, detail: str) -> None:
    view, settings = shown(), Settings(error="changing settings is disabled")
    view.refused = "an image is being made"
    answer = post(made(view, settings=settings), path, body)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(detail)
    assert settings.taken == []


@pytest.mark.parametrize("path", WRITES)
def test_nothing_can_be_done_where_extension_access_is_disabled(path: str) -> None:
    settings = Settings(why="extension access is disabled because of command line flags")
    app = made(settings=settings)
    answer = post(app, path, {"key": None} if path == WRITES[1] else {})
    assert (answer.status_code, answer.json()) == (403, {"detail": settings.why})
    assert settings.taken == []
    assert get(app, STATUS).status_code == 200


@pytest.mark.parametrize("path", WRITES)
def test_nobody_without_credentials_and_no_form_of_another_site_does_anything(path: str) -> None:
    app = made(access=Access(Credentials.of_api("u:p"), None))
    body = {"key": None} if path == WRITES[1] else {}
    assert post(app, path, body).status_code == 401
    assert post(app, path, body, auth=("u", "p")).status_code == 200
    assert ask(app, "GET", path, auth=("u", "p")).status_code == 405


def test_pages_cover_everything_once() -> None:
    app, seen, offset = made(), [], 0
    for _ in range(4):
        page = get(app, STATS, params={"limit": 3, "offset": offset}).json()
        seen += [event["at"] for event in page["events"]]
        offset = page["next_offset"]
    assert offset is None
    assert seen == [None, *range(9, -1, -1)]


def test_the_last_full_page_has_no_next() -> None:
    assert get(made(), STATS, params={"limit": 11}).json()["next_offset"] is None
    assert get(made(), STATS, params={"limit": 10}).json()["next_offset"] == 10
    assert get(made(), STATS, params={"offset": 11}).json()["events"] == []


def test_filters() -> None:
    app = made()
    assert len(get(app, STATS, params={"since": 8}).json()["events"]) == 3
    assert len(get(app, STATS, params={"since": 8, "kind": "move"}).json()["events"]) == 2
    assert len(get(app, STATS, params={"since": 8, "model": "flux1"}).json()["events"]) == 2
    assert get(app, STATS, params={"model": "schnell"}).json()["events"] == []
    assert get(app, STATS, params={"kind": "nothing such"}).json()["events"] == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "offset=-1",
        "offset=99999999999999999999",
        "since=soon",
        "since=nan",
    ],
)
def test_wrong_parameters_are_422(query: str) -> None:
    assert get(made(), f"{STATS}?{query}").status_code == 422


@pytest.mark.parametrize(
    ("path", "times"),
    [(STATUS, 3), (STATS, 11), (CONFIG, 1), (READS[0], 2), (READS[1], 2), (READS[2], 3), (READS[4], 3)],
)
def test_odd_names_are_escaped(path: str, times: int) -> None:
    found = list(strings(get(made(shown(ODD)), path).json()))
    assert found.count('it\'s "odd"\n🚀 \\ud83d\\udcff\0') == times


def test_docs_have_the_routes_also_when_they_were_read_before() -> None:
    app = FastAPI()
    assert get(app, "/openapi.json").json()["paths"] == {}
    register(app, shown(), Access(Credentials.of_api("u:p"), None), Settings().control())
    described = get(app, "/openapi.json").json()
    assert set(described["paths"]) == {STATUS, STATS, CONFIG, *READS, *WRITES}
    assert {parameter["name"] for parameter in described["paths"][STATS]["get"]["parameters"]} == {
        "since",
        "kind",
        "model",
        "limit",
        "offset",
    }
    answers = described["paths"][WRITES[1]]["post"]["responses"]
    assert {"200", "403", "409", "415", "422"} == set(answers)
    assert described["components"]["securitySchemes"] == {"HTTPBasic": {"type": "http", "scheme": "basic"}}
    assert get(app, "/docs").status_code == 200


def test_a_second_registration_replaces_the_first() -> None:
    app = made(shown(tier="large"))
    before = len(app.router.routes)
    register(app, shown(tier="small"), Access(Credentials.of_api("u:p"), None), Settings().control())
    assert len(app.router.routes) == before
    assert get(app, STATUS).status_code == 401
    assert get(app, STATUS, auth=("u", "p")).json()["tier"] == "small"


@pytest.mark.parametrize("path", [STATUS, STATS, CONFIG, *READS])
def test_basic_where_api_auth_is_set(path: str) -> None:
    # A gradio login does not count then.
    app = made(access=Access(Credentials.of_api("u:p,u2:p:2,pä:wörd"), lambda _: True))
    for user, password in (("u", "p"), ("u2", "p:2"), ("pä", "wörd")):
        assert get(app, path, auth=(user, password)).status_code == 200
    for user, password in (("u", "p:2"), ("u2", "p"), ("u", ""), ("", ""), ("x", "p"), ("u", "P")):
        answer = get(app, path, auth=(user, password))
        assert (answer.status_code, answer.json()) == (401, {"detail": WRONG})
        assert answer.headers["WWW-Authenticate"] == "Basic"


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({}, "Not authenticated"),
        ({"Authorization": "Bearer u:p"}, "Not authenticated"),
        ({"Authorization": "Basic"}, "Invalid authentication credentials"),
        ({"Authorization": "Basic x"}, "Invalid authentication credentials"),
        (basic(b"no colon"), "Invalid authentication credentials"),
        (basic(b"u\xff:p\xfe"), WRONG),
    ],
)
def test_basic_without_usable_credentials(headers: dict[str, str], detail: str) -> None:
    answer = get(made(access=Access(Credentials.of_api("u:p"), None)), STATUS, headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"detail": detail})
    assert answer.headers["WWW-Authenticate"] == "Basic"


def list_nothing() -> list[str]:
    return []


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic x"}, basic(b"no colon"), basic(b"u:p")])
def test_answers_are_those_of_fastapi(headers: dict[str, str]) -> None:
    reference = FastAPI()
    reference.get(STATUS, dependencies=[Depends(HTTPBasic())])(list_nothing)
    theirs, ours = (
        get(reference, STATUS, headers=headers),
        get(made(access=Access(Credentials.of_api("u:p"), None)), STATUS, headers=headers),
    )
    assert ours.status_code == theirs.status_code
    assert ours.headers.get("WWW-Authenticate") == theirs.headers.get("WWW-Authenticate")
    if ours.status_code == 401:
        assert ours.json() == theirs.json()


@pytest.mark.parametrize("api_auth", ["nobody", ",", " "])
def test_an_entry_without_a_colon_lets_nobody_in(api_auth: str) -> None:
    app = made(access=Access(Credentials.of_api(api_auth), None))
    for credentials in (b":", b"nobody:", b" :", b"nobody:nobody"):
        assert get(app, STATUS, headers=basic(credentials)).status_code == 401


def test_an_unencodable_password_is_no_error() -> None:
    app = made(access=Access(Credentials.of_api("u:p,v:\ud83d"), None))
    assert get(app, STATUS, auth=("u", "p")).status_code == 200


def test_open_where_nothing_is_set() -> None:
    for access in (Access(None, None), Access(Credentials.of_api(""), None)):
        assert get(made(access=access), STATUS).status_code == 200


def test_login_only() -> None:
    def login(request: Request) -> bool:
        return request.headers.get("name") == "known"

    app = made(access=Access(None, login))
    assert get(app, STATUS, headers={"name": "known"}).status_code == 200
    answer = get(app, STATUS, auth=("u", "p"))
    assert (answer.status_code, answer.json()) == (401, {"detail": "Not authenticated"})


def test_access_does_not_show_its_passwords() -> None:
    access = Access(Credentials.of_api("u:secret"), None)
    assert "secret" not in repr(access) + repr(access.dependency()) + repr(Credentials.of_api("u:secret"))


def test_an_app_without_gradio_has_no_login() -> None:
    assert gradio_login(FastAPI()) is None


@pytest.fixture(params=[("u", "p"), None], ids=["login", "no login"])
def launched(request: pytest.FixtureRequest) -> Iterator[tuple[FastAPI, str]]:
    """A real gradio server on 127.0.0.1, with a login and without: its app and its address."""
    with warnings.catch_warnings():
        # Nothing of ours runs in here but `register`: what gradio's imports and its server warn of is theirs.
        warnings.simplefilter("ignore")
        import gradio

        with gradio.Blocks() as demo:
            gradio.Textbox()
        app, address, _ = demo.launch(
            auth=request.param,
            server_name="127.0.0.1",
            prevent_thread_lock=True,
            quiet=True,
            app_kwargs={"docs_url": "/docs"},
        )
        try:
            yield app, address.rstrip("/")
        finally:
            demo.close()


def test_the_gradio_login_opens_the_api(launched: tuple[FastAPI, str]) -> None:
    app, address = launched
    login = gradio_login(app)
    register(app, shown(ODD), Access(None, login), Settings().control())
    with httpx.Client(base_url=address, trust_env=False, timeout=PATIENCE_S) as client:
        if login is not None:
            assert client.get(STATUS).status_code == 401
            assert client.post("/login", data={"username": "u", "password": "no"}).status_code == 400
            assert client.get(STATUS).status_code == 401
            assert client.post("/login", data={"username": "u", "password": "p"}).status_code == 200
        for path in (STATUS, STATS, CONFIG, *READS):
            assert client.get(path).status_code == 200
        assert client.post(WRITES[1], json={"key": None}).json() == {"done": FREED}
        assert STATUS in client.get("/openapi.json").json()["paths"]
        if login is not None:
            app.tokens.clear()  # type: ignore[attr-defined]
            assert client.get(STATUS).status_code == 401


def test_the_login_is_asked_for_exactly_where_gradio_has_one(launched: tuple[FastAPI, str]) -> None:
    app, address = launched
    register(app, shown(), Access(None, gradio_login(app)), Settings().control())
    expected = 401 if app.auth is not None else 200  # type: ignore[attr-defined]
    with httpx.Client(base_url=address, trust_env=False, timeout=PATIENCE_S) as client:
        assert client.get(STATUS).status_code == expected
        for name in (
            "access-token",
            "access-token-unsecure",
            f"access-token-{getattr(app, 'cookie_id', '')}",
        ):
            assert client.get(STATUS, headers={"Cookie": f"{name}=guess"}).status_code == expected
