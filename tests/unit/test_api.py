"""The API: what it answers, and whom."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import warnings
from collections.abc import Iterator, Sequence
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
from flux_speedup.patches import Outcome, State
from flux_speedup.stats.events import Event, Totals
from flux_speedup.view import ConfigRow, Status, Value

STATUS, STATS, CONFIG = (f"/flux-speedup/v1/{name}" for name in ("status", "stats", "config"))
OPEN = Access(None, None)
ODD = 'it\'s "odd"\n🚀 \ud83d\udcff\0'
WRONG = "Incorrect username or password"


class FakeView:
    """Ten moves and a stage of the start; nothing can be changed."""

    def __init__(self, name: str = "flux1-dev.safetensors", *, tier: str = "large") -> None:
        self._name = name
        self._tier = tier
        self.all = [Event("move", name, 10**9 * n, 0.5, "page cache", "GPU", at=float(n)) for n in range(10)]
        self.all.append(Event("startup", name, 0, math.nan, "", "", at=math.inf, detail=name))

    def status(self) -> Status:
        outcome = Outcome("streams", self._name, State.APPLIED, self._name)
        return Status("0.1.0", "Forge", True, self._name, self._tier, "80 GB", False, (outcome,))

    def events(
        self, *, since: float | None = None, kind: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[Event]:
        found = [
            event
            for event in reversed(self.all)
            if (since is None or event.at >= since) and (kind is None or event.kind == kind)
        ]
        return found[offset : offset + limit]

    def totals(self) -> Totals:
        return Totals.of(self.all)

    def config(self) -> list[ConfigRow]:
        values: list[Value] = [self._name, 1, 1.0, True, None, math.inf]
        return [ConfigRow(f"key {n}", value, "user file") for n, value in enumerate(values)]

    def keep_only(self, items: Sequence[str]) -> Status:
        raise AssertionError(items)

    def put_everything_back(self) -> Status:
        raise AssertionError


def made(view: FakeView | None = None, access: Access = OPEN) -> FastAPI:
    app = FastAPI()
    register(app, view or FakeView(), access)
    return app


def get(app: FastAPI, path: str, **options: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, **options)

    return asyncio.run(ask())


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
        "tier_why": "80 GB",
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


@pytest.mark.parametrize(("path", "times"), [(STATUS, 3), (STATS, 12), (CONFIG, 1)])
def test_odd_names_are_escaped(path: str, times: int) -> None:
    found = list(strings(get(made(FakeView(ODD)), path).json()))
    assert found.count('it\'s "odd"\n🚀 \\ud83d\\udcff\0') == times


def test_docs_have_the_routes_also_when_they_were_read_before() -> None:
    app = FastAPI()
    assert get(app, "/openapi.json").json()["paths"] == {}
    register(app, FakeView(), Access("u:p", None))
    described = get(app, "/openapi.json").json()
    assert set(described["paths"]) == {STATUS, STATS, CONFIG}
    assert {parameter["name"] for parameter in described["paths"][STATS]["get"]["parameters"]} == {
        "since",
        "kind",
        "limit",
        "offset",
    }
    assert described["components"]["securitySchemes"] == {"HTTPBasic": {"type": "http", "scheme": "basic"}}
    assert get(app, "/docs").status_code == 200


def test_a_second_registration_replaces_the_first() -> None:
    app = made(FakeView(tier="large"))
    before = len(app.router.routes)
    register(app, FakeView(tier="small"), Access("u:p", None))
    assert len(app.router.routes) == before
    assert get(app, STATUS).status_code == 401
    assert get(app, STATUS, auth=("u", "p")).json()["tier"] == "small"


@pytest.mark.parametrize("path", [STATUS, STATS, CONFIG])
def test_basic_where_api_auth_is_set(path: str) -> None:
    # A gradio login does not count then.
    app = made(access=Access("u:p,u2:p:2,pä:wörd", lambda _: True))
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
    answer = get(made(access=Access("u:p", None)), STATUS, headers=headers)
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
        get(made(access=Access("u:p", None)), STATUS, headers=headers),
    )
    assert ours.status_code == theirs.status_code
    assert ours.headers.get("WWW-Authenticate") == theirs.headers.get("WWW-Authenticate")
    if ours.status_code == 401:
        assert ours.json() == theirs.json()


@pytest.mark.parametrize("api_auth", ["nobody", ",", " "])
def test_an_entry_without_a_colon_lets_nobody_in(api_auth: str) -> None:
    app = made(access=Access(api_auth, None))
    for credentials in (b":", b"nobody:", b" :", b"nobody:nobody"):
        assert get(app, STATUS, headers=basic(credentials)).status_code == 401


def test_an_unencodable_password_is_no_error() -> None:
    app = made(access=Access("u:p,v:\ud83d", None))
    assert get(app, STATUS, auth=("u", "p")).status_code == 200


def test_open_where_nothing_is_set() -> None:
    for access in (Access(None, None), Access("", None)):
        assert get(made(access=access), STATUS).status_code == 200


def test_login_only() -> None:
    def login(request: Request) -> bool:
        return request.headers.get("name") == "known"

    app = made(access=Access(None, login))
    assert get(app, STATUS, headers={"name": "known"}).status_code == 200
    answer = get(app, STATUS, auth=("u", "p"))
    assert (answer.status_code, answer.json()) == (401, {"detail": "Not authenticated"})


def test_access_does_not_show_its_passwords() -> None:
    assert "secret" not in repr(Access("u:secret", None)) + repr(Access("u:secret", None).dependency())


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
    register(app, FakeView(ODD), Access(None, login))
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        if login is not None:
            assert client.get(STATUS).status_code == 401
            assert client.post("/login", data={"username": "u", "password": "no"}).status_code == 400
            assert client.get(STATUS).status_code == 401
            assert client.post("/login", data={"username": "u", "password": "p"}).status_code == 200
        for path in (STATUS, STATS, CONFIG):
            assert client.get(path).status_code == 200
        assert STATUS in client.get("/openapi.json").json()["paths"]
        if login is not None:
            app.tokens.clear()  # type: ignore[attr-defined]
            assert client.get(STATUS).status_code == 401


def test_the_login_is_asked_for_exactly_where_gradio_has_one(launched: tuple[FastAPI, str]) -> None:
    app, address = launched
    register(app, FakeView(), Access(None, gradio_login(app)))
    expected = 401 if app.auth is not None else 200  # type: ignore[attr-defined]
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        assert client.get(STATUS).status_code == expected
        for name in (
            "access-token",
            "access-token-unsecure",
            f"access-token-{getattr(app, 'cookie_id', '')}",
        ):
            assert client.get(STATUS, headers={"Cookie": f"{name}=guess"}).status_code == expected
