"""What a page of another site, or somebody on the network, tries with a WebUI that serves the API and the tab."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from flux_speedup.api import Access, register
from flux_speedup.control.control import Control
from flux_speedup.control.rules import Rules
from flux_speedup.hosts.common.credentials import Credentials
from flux_speedup.hosts.common.inside import Forbidden, Refused
from flux_speedup.hosts.common.names import Names, names
from flux_speedup.ui import changes, section, tab
from tests.asking import answered
from tests.fake_view import FakeView

V1 = "/flux-speedup/v1"
READS = [
    f"{V1}/{name}" for name in ("status", "config", "models", "machine", "requests", "metrics", "packed")
]
WRITES: dict[str, Any] = {
    f"{V1}/measure": {},
    f"{V1}/drop": {"key": None},
    f"{V1}/pack": {"stop": True},
    f"{V1}/remove_traces": {},
    f"{V1}/settings": {"tier": "large"},
}
HERE = "127.0.0.1:7860"
CALLS = {"measure", "pack", "drop", "remove_traces", "set_options"}


def flags(**more: Any) -> SimpleNamespace:
    return SimpleNamespace(server_name=None, share=False, ngrok=None, cors_allow_origins=None, **more)


class Site:
    """The API over a view that writes down what is done to it."""

    def __init__(self, called: Names | None = None, refused: str | None = None) -> None:
        self.view = FakeView()
        self.app = FastAPI()
        rules = Rules(lambda: called or names(flags(), []), lambda: refused)
        register(self.app, self.view, Access(None, None), Control(self.view, rules))

    def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str | None] = {}) -> int:
        sent = {"Host": HERE, "Content-Type": "application/json" if method == "POST" else None, **headers}

        async def answer() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(self.app), base_url="http://x"
            ) as client:
                request = client.build_request(
                    method, path, content=json.dumps(body) if body is not None else b""
                )
                request.headers = httpx.Headers({k: v for k, v in sent.items() if v is not None})
                return await client.send(request)

        return answered(answer()).status_code


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_body_that_a_form_can_send_is_refused(path: str, kind: str | None) -> None:
    site = Site()
    assert site.ask("POST", path, WRITES[path], {"Content-Type": kind}) in (415, 422)
    assert site.ask("POST", path, WRITES[path], {"Content-Type": None}) == 415
    assert site.view.calls == []
    assert site.ask("POST", path, WRITES[path], {"Content-Type": "application/json; charset=utf-8"}) == 200
    assert len(site.view.calls) == 1


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[evil.example"},  # no address at all
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "https://127.0.0.1:7860.evil.example"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "CROSS-SITE"},
        {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_a_page_of_another_site_changes_nothing(path: str, headers: dict[str, str]) -> None:
    site = Site()
    assert site.ask("POST", path, WRITES[path], headers) == 403
    assert site.view.calls == []


@pytest.mark.parametrize("path", [*READS, *WRITES])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "a@b.c", ""],
)
def test_a_name_that_was_made_to_lead_here_reads_nothing(path: str, host: str) -> None:
    site = Site()
    method = "POST" if path in WRITES else "GET"
    assert site.ask(method, path, WRITES.get(path), {"Host": host}) == 403
    assert site.view.calls == []


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:7860", "LOCALHOST:7860", "127.0.0.1:7860", "[::1]:7860", "192.168.1.7:7860",
     "webui:7860", f"{socket.gethostname()}:7860", "tests.localhost:80"],
)  # fmt: skip
def test_the_server_answers_to_its_own_names(host: str) -> None:
    site = Site()
    assert {site.ask("GET", path, headers={"Host": host}) for path in READS} == {200}
    same = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert {site.ask("POST", path, body, same) for path, body in WRITES.items()} == {200}


@pytest.mark.parametrize(
    ("given", "allowed", "headers"),
    [
        ({"server_name": "webui.example.org"}, [], {"Host": "webui.example.org:7860"}),
        ({}, ["webui.example.org"], {"Host": "WebUI.example.org", "Origin": "https://webui.example.org"}),
        ({}, ["*.example.org"], {"Host": "a.b.example.org"}),
        ({}, ["*"], {"Host": "whatever.example"}),
        # A proxy that asks by the address and hands on the page's own origin.
        ({}, ["webui.example.org"], {"Origin": "https://webui.example.org", "Sec-Fetch-Site": "same-site"}),
        ({"share": True}, [], {"Host": "0123456789abcdef.gradio.live"}),
        ({"ngrok": "token"}, [], {"Host": "abc.ngrok-free.app"}),
        ({"cors_allow_origins": "https://a.example,https://b.example"}, [], {"Origin": "https://b.example",
          "Sec-Fetch-Site": "cross-site"}),
        ({"cors_allow_origins": "https://a.example"}, [], {"Host": "a.example"}),
        ({"cors_allow_origins": "*"}, [], {"Origin": "https://c.example", "Sec-Fetch-Site": "cross-site"}),
        ({"cors_allow_origins_regex": r"https://.*\.example"}, [], {"Origin": "https://d.example"}),
    ],
)  # fmt: skip
def test_whom_the_user_let_in_gets_in_and_nobody_else(
    given: dict[str, Any], allowed: list[str], headers: dict[str, str]
) -> None:
    made = flags()
    vars(made).update(given)
    site = Site(names(made, allowed))
    for path, body in WRITES.items():
        assert site.ask("POST", path, body, headers) == 200
        assert Site().ask("POST", path, body, headers) == 403
    if "*" not in allowed and given.get("cors_allow_origins") != "*":
        assert site.ask("GET", READS[0], headers={"Host": "evil.example"}) == 403
        assert site.ask("POST", f"{V1}/measure", {}, {"Origin": "https://evil.example.com"}) == 403


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("drop", {}, 422),
        ("drop", {"kye": "abc"}, 422),
        ("drop", {"key": None, "all": True}, 422),
        ("drop", [], 422),
        ("drop", None, 422),
        ("measure", {"cancle": True}, 422),
        ("settings", {"teir": "large"}, 400),
        ("settings", {"tier": None}, 422),
    ],
)
def test_a_misspelt_body_does_nothing(path: str, body: object, status: int) -> None:
    site = Site()
    assert site.ask("POST", f"{V1}/{path}", body) == status
    assert site.view.calls == []


def handlers(page: Any) -> list[Callable[..., Any]]:
    """Every function behind the tab's events that takes the request."""
    kept = page.fns.values() if isinstance(page.fns, dict) else page.fns
    return [each.fn for each in kept if "request" in getattr(each.fn, "__annotations__", {})]


def press(function: Callable[..., Any], headers: Mapping[str, str] | None) -> None:
    """As gradio calls it, over the network or not."""
    inputs: dict[str, list[Any]] = {
        "handler": [None, {}],
        "free": [None, {}],
        "pressed": ["drop:x", None, {}],
        "pressed_apply": [[], ["streams"]],
    }
    function(SimpleNamespace(headers=headers), *inputs.get(function.__name__, []))


EVERY_BUTTON = {
    "handler", "free", "pressed", "forget", "pressed_apply", "pressed_back", "pressed_again", "pressed_disable",
    "pressed_undo",
}  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"host": HERE}, "extension access is disabled because of command line flags"),
        ({"host": HERE, "origin": "https://evil.example"}, None),
        ({"host": HERE, "sec-fetch-site": "cross-site"}, None),
        ({"host": "evil.example"}, None),
        (None, None),
    ],
)
def test_the_tabs_buttons_obey_the_same_rules(headers: dict[str, str] | None, refused: str | None) -> None:
    import gradio as gr

    view = FakeView()
    control = Control(view, Rules(lambda: names(flags(), []), lambda: refused))
    with gr.Blocks(analytics_enabled=False) as settings:
        changes.build(view, control)
        section.left_out(view, control)
    pressed = set()
    for page in (tab.build(view, control), settings):
        for function in handlers(page):
            pressed.add(function.__name__)
            press(function, headers)
    assert pressed == EVERY_BUTTON
    assert view.calls == []
    # And with nothing against it each does what it is for.
    for function in handlers(tab.build(view, Control(view, Rules(lambda: names(flags(), []), lambda: None)))):
        press(function, {"host": HERE, "origin": f"http://{HERE}"})
    assert {name for name, _ in view.calls} >= {"measure", "drop", "forget_statistics", "put_everything_back"}


def test_whatever_is_added_to_the_acts_is_checked_too() -> None:
    class More(FakeView):
        def something_new(self) -> None:
            raise AssertionError

    acts: Any = Control(More(), Rules(Names, lambda: "no")).by({"host": HERE})
    with pytest.raises(Forbidden, match="no"):
        acts.something_new()


def test_without_a_page_its_login_guards_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: Any = ModuleType("modules.shared")
    shared.cmd_opts = SimpleNamespace(api=True, api_auth=None, gradio_auth="me:secret", gradio_auth_path=None)
    monkeypatch.setitem(sys.modules, "modules.shared", shared)
    view, app = FakeView(), FastAPI()
    control = Control(view, Rules(lambda: names(shared.cmd_opts, []), lambda: None))
    register(app, view, Access(Credentials.of(shared.cmd_opts, page=False), None), control)

    async def statuses() -> list[int]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        ) as client:
            return [
                (await client.get(READS[0])).status_code,
                (await client.post(f"{V1}/drop", json={"key": None})).status_code,
                (await client.get(READS[0], auth=("me", "secret"))).status_code,
                (await client.post(f"{V1}/drop", json={"key": None}, auth=("me", "secret"))).status_code,
                (await client.get(READS[0], auth=("me", "wrong"))).status_code,
            ]

    assert answered(statuses()) == [401, 401, 200, 200, 401]
    assert Credentials.of_page(None, None) is None
    assert issubclass(Forbidden, Refused)
