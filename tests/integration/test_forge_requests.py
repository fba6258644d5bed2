"""Requests of a real Forge: where their seconds went, over the API and in the tab, and what may be done to it."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import tab_at_work
from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, Forge
from tests.served import says
from tests.tab_at_work import TAB

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

V1 = "/flux-speedup/v1"
COMMON = {"prompt": "a cat", **tiny_flux.COMMON}
HIRES = {
    "enable_hr": True,
    "hr_scale": 2,
    "hr_upscaler": "Latent",
    "hr_second_pass_steps": 2,
    "denoising_strength": 0.7,
    "hr_additional_modules": ["Use same choices"],
    "seed": 2,
}
QUEUED = ({"seed": 3}, {"seed": 4})


@pytest.fixture(scope="module")
def forge(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Forge with its page and a tiny Flux; extensions may be accessed."""
    data = tmp_path_factory.mktemp("requests")
    options = tiny_flux.options(tiny_flux.write_all(data / "models"))
    # Without the last, this checkout's own style sheets and scripts are forbidden: the data folder is elsewhere.
    flags = (
        *("--api", "--unet-in-bf16", "--enable-insecure-extension-access"),
        *("--gradio-allowed-path", str(forge_dir)),
    )
    extensions = {"flux-speedup": EXTENSION}
    environ = {"PROBE_TINY": "1", "PROBE_DEVICE": "1", "PROBE_CARD_GIB": "80"}
    with Forge(
        forge_dir, data, flags=flags, extensions=extensions, options=options, environ=environ
    ) as started:
        yield started


def image(forge: Forge, request: dict[str, Any]) -> str:
    """The hash of the image's file."""
    answer = forge.post("/sdapi/v1/txt2img", {**COMMON, **request})
    return hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest()


@pytest.fixture(scope="module")
def images(forge: Forge) -> list[str]:
    """The same request twice, one with hires, and two at once."""
    made = [image(forge, {}), image(forge, {}), image(forge, HIRES)]
    with ThreadPoolExecutor(2) as pool:
        return made + list(pool.map(lambda request: image(forge, request), QUEUED))


@pytest.fixture(scope="module")
def requests(forge: Forge, images: list[str]) -> list[dict[str, Any]]:
    """What the extension says of them, the oldest first."""
    assert len(images) == 5
    found: list[dict[str, Any]] = forge.get(f"{V1}/requests")["requests"]
    return found[::-1]


def test_every_request_is_there_with_its_passes(requests: list[dict[str, Any]]) -> None:
    assert [each["number"] for each in requests] == [1, 2, 3, 4, 5]
    assert {(each["kind"], each["via"], each["images"], each["failed"]) for each in requests} == {
        ("txt2img", "API", 1, False)
    }
    passes = [[each["name"] for each in request["passes"]] for request in requests]
    assert passes == [["txt2img"], ["txt2img"], ["txt2img", "hires"], ["txt2img"], ["txt2img"]]


def test_every_pass_has_its_seconds_an_iteration(forge: Forge, requests: list[dict[str, Any]]) -> None:
    for request in requests:
        for each in request["passes"]:
            steps = each["steps"]
            assert (steps["count"], steps["bytes"], steps["waited"], steps["rate_gb_s"]) == (2, 0, None, None)
            assert 0 < steps["seconds"] <= each["parts"]["sampling"]
    assert forge.log().count(" s/it") >= len(requests)
    last = requests[-1]["passes"][0]["steps"]["seconds"]
    said = 'flux_speedup_last_request_step_seconds{pass="txt2img"} '
    assert f"{said}{last!r}" in forge.text(f"{V1}/metrics")


def test_parts_are_the_whole_request(requests: list[dict[str, Any]]) -> None:
    for request in requests:
        assert sum(request["parts"].values()) == pytest.approx(request["seconds"], abs=1e-6)
        for each in request["passes"]:
            assert sum(each["parts"].values()) == pytest.approx(each["seconds"], abs=1e-6)
        assert sum(each["seconds"] for each in request["passes"]) <= request["seconds"] + 1e-6
        assert {"sampling", "vae", "other"} <= set(request["parts"])
        assert all(seconds >= 0 for seconds in request["parts"].values())
    first, second, hires = requests[:3]
    assert first["parts"]["load"] > 0.05 > second["parts"].get("load", 0)
    assert first["parts"]["text encoding"] > second["parts"].get("text encoding", 0)
    assert hires["passes"][1]["parts"]["sampling"] > 0


def test_queued_requests_do_not_count_each_other(requests: list[dict[str, Any]]) -> None:
    one, two = requests[3:]
    assert two["began"] >= one["began"] + one["seconds"] - 0.01


def test_loading_agrees_with_the_events(forge: Forge, requests: list[dict[str, Any]]) -> None:
    events = forge.get(f"{V1}/stats?limit=1000&kind=checkpoint&model=TINY-one")["events"]
    assert [event["what"] for event in events] == ["tiny-one.safetensors"]
    assert events[0]["seconds"] <= requests[0]["parts"]["load"]
    moved = forge.get(f"{V1}/stats?limit=1000&kind=move")["events"]
    assert sum(event["bytes"] for event in moved) == sum(each["bytes"] for each in requests)


def test_the_log_has_one_line_a_request(forge: Forge, requests: list[dict[str, Any]]) -> None:
    forge.get(f"{V1}/requests")
    assert forge.log().count("[flux-speedup] txt2img: ") == len(requests)


def test_metrics_and_models_agree_with_the_rest(forge: Forge, requests: list[dict[str, Any]]) -> None:
    with_text = forge.text(f"{V1}/metrics")
    lines = dict(line.rsplit(" ", 1) for line in with_text.splitlines() if not line.startswith("#"))
    for part, seconds in requests[-1]["parts"].items():
        assert float(lines[f'flux_speedup_last_request_seconds{{part="{part}"}}']) == pytest.approx(seconds)
    models = forge.get(f"{V1}/models")
    assert [(each["name"], each["where"]) for each in models] == [("tiny-one.safetensors", "in use")]
    assert models[0]["file_bytes"] > 0
    memory = forge.get(f"{V1}/machine")["memory"]
    assert memory["page_cache"] is None or memory["page_cache"] > 0
    assert memory["anonymous"] > 0


def test_measuring_reads_the_disk_and_the_page_cache(forge: Forge, images: list[str]) -> None:
    assert forge.post(f"{V1}/measure")["state"] in ("running", "done")
    end = time.monotonic() + 60
    while forge.get(f"{V1}/machine")["measuring"]["state"] == "running" and time.monotonic() < end:
        time.sleep(0.1)
    found = forge.get(f"{V1}/machine")
    assert found["measuring"]["state"] == "done", found
    assert found["measured"]["page_cache"] > 0
    assert found["measured"]["bus"] is None
    kept = json.loads((forge.data / "cache" / "flux-speedup" / "machine.json").read_text())
    assert kept == found["measured"]


def refused(forge: Forge, path: str, body: dict[str, Any]) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as error:
        forge.post(path, body)
    detail = json.loads(error.value.read())["detail"]
    error.value.close()
    return error.value.code, detail


def test_drop_and_settings(forge: Forge, images: list[str]) -> None:
    assert forge.post(f"{V1}/drop", {"key": None})["done"]
    assert image(forge, {}) == images[0]
    assert refused(forge, f"{V1}/drop", {"key": "no such"}) == (
        409,
        "there is no such model; it may be gone already",
    )
    assert "refresh_s = 30 s" in forge.post(f"{V1}/settings", {"refresh_s": "30 s"})["done"]
    assert json.loads((forge.data / "config.json").read_text())["flux_speedup_refresh_s"] == "30 s"
    assert refused(forge, f"{V1}/settings", {"samples_filename_pattern": "x"})[0] == 400


def test_a_request_that_fails_says_so(forge: Forge, images: list[str]) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        image(forge, {"width": -64})
    error.value.close()
    newest = forge.get(f"{V1}/requests?limit=1")["requests"][0]
    assert (newest["failed"], newest["images"], newest["running"]) == (True, 0, False)
    assert image(forge, {}) == images[0]
    assert not forge.get(f"{V1}/requests?limit=1")["requests"][0]["failed"]


def press_generate(forge: Forge, values: dict[str, Any]) -> str:
    """Press Generate on the page with the values its components were built with, and those given by elem_id."""
    config = forge.get("/config")
    components = {each["id"]: each["props"] for each in config["components"]}
    (button,) = [key for key, props in components.items() if props.get("elem_id") == "txt2img_generate"]
    clicks = [each for each in config["dependencies"] if [button, "click"] in each["targets"]]
    pressed = max(clicks, key=lambda each: len(each["inputs"]))
    given = [components[key] for key in pressed["inputs"]]
    data = [values.get(props.get("elem_id", ""), props.get("value")) for props in given]
    data[0] = "task(test)"
    body = {"data": data, "fn_index": pressed["id"], "session_hash": "test"}
    forge.post("/queue/join", body)
    return forge.text("/queue/data?session_hash=test")


def test_a_request_of_the_page_is_told_apart(forge: Forge, images: list[str]) -> None:
    before = forge.get(f"{V1}/requests?limit=1")["requests"][0]["number"]
    values = {"txt2img_prompt": "a dog", "txt2img_width": 64, "txt2img_height": 64, "txt2img_steps": 2}
    said = press_generate(forge, values)
    (newest,) = forge.get(f"{V1}/requests?limit=1")["requests"]
    assert (newest["via"], newest["kind"], newest["number"]) == ("page", "txt2img", before + 1), said[-2000:]
    assert newest["parts"]["sampling"] > 0
    assert sum(newest["parts"].values()) == pytest.approx(newest["seconds"], abs=1e-6)


@pytest.fixture(scope="module")
def page(forge: Forge, images: list[str], browser: Browser) -> Iterator[Page]:
    """The tab in front, asking for news every two seconds; two models are built, one of them kept."""
    forge.post(f"{V1}/settings", {"refresh_s": "2 s"})
    forge.post("/sdapi/v1/options", {"sd_model_checkpoint": "tiny-two.safetensors"})
    image(forge, {})
    opened = tab_at_work.opened_tab(browser, forge.url)
    yield opened
    opened.context.close()


@pytest.mark.browser
def test_the_tab_follows_an_image_that_is_made_on_the_page(forge: Forge, page: Page) -> None:
    tab_at_work.agrees(page, forge.get)
    before = forge.get(f"{V1}/requests?limit=1")["requests"][0]["number"]
    page.locator("button", has_text="Txt2img").first.click()
    page.fill("#txt2img_prompt textarea", "a lighthouse")
    for name, value in (("steps", "2"), ("width", "64"), ("height", "64")):
        page.fill(f"#txt2img_{name} input[type=number]", value)
    page.click("#txt2img_generate")
    page.wait_for_selector("#txt2img_gallery img")
    page.locator("button", has_text="Flux Speedup").first.click()
    says(page, f"{TAB}_requests", "from the page")
    says(page, f"{TAB}_requests", f"{before + 1} txt2img")
    tab_at_work.agrees(page, forge.get)
    assert page.complaints == []  # type: ignore[attr-defined]


@pytest.mark.browser
def test_the_tab_is_legible_with_real_figures(page: Page, artifacts: Path) -> None:
    tab_at_work.pictures(page, artifacts, "forge-tab")


@pytest.mark.browser
def test_every_button_of_the_tab(forge: Forge, page: Page, artifacts: Path) -> None:
    earlier = page.locator(f'#{TAB} [data-fsu-do^="request:"]').last
    number = earlier.locator(".fsu-item").inner_text()
    earlier.click()
    says(page, f"{TAB}_requests", f"Where the time of request {number} went")
    tab_at_work.measured(page, forge.get)
    page.locator(f'#{TAB} [data-fsu-do^="drop:"]').first.click()
    says(page, f"{TAB}_models_said", "tiny-one.safetensors is forgotten")
    page.click(f"#{TAB}_free")
    says(page, f"{TAB}_models_said", "left the device: ")
    assert [model["device_bytes"] for model in forge.get(f"{V1}/models")] == [0]
    tab_at_work.exported(page, forge.get)
    tab_at_work.reported(page, ("tiny-", "lighthouse", "a cat", str(forge.data)))
    tab_at_work.pictures(page, artifacts, "forge-tab-measured")
    tab_at_work.forgotten(page, forge.get)
    tab_at_work.put_back(page, forge.get, "Load times")
    assert [file for file in forge.state()["functions"].values() if "flux_speedup" in file] == []
    page.screenshot(path=artifacts / "forge-tab-put-back.png", full_page=True)
    assert page.complaints == []  # type: ignore[attr-defined]
