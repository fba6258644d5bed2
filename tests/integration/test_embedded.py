"""The embedded WebUI: its doors in their order, its API, its page, and images that do not change."""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher import embedded
from launcher.install import install
from launcher.once import once
from launcher.server import PhaseError, Server
from tests import tab_at_work
from tests.served import MINOR, says
from tests.tab_at_work import TAB

PYTHON = Path(sys.executable)
SMALL = {"prompt": "a lighthouse", "seed": 3}
TINY = {"prompt": "a cat", "seed": 1, "steps": 2, "width": 64, "height": 64}
# An extension that writes down which door was opened, and what was there already.
PRELOAD = """
import sys, pathlib
LOG = pathlib.Path(__file__).with_name("doors.txt")
def note(line):
    with LOG.open("a") as file: file.write(line + "\\n")
def preload(parser):
    early = ("backend.memory_management", "backend.stream", "torch", "gradio")
    late = ("modules.script_callbacks", "modules.sd_models", "backend.loader")
    note(f"preload {all(x in sys.modules for x in early)} {any(x in sys.modules for x in late)}")
    parser.add_argument("--doors-flag", default="unset")
"""
SCRIPT = """
import pathlib
from modules import script_callbacks, shared
LOG = pathlib.Path(__file__).parent.parent / "doors.txt"
def note(line):
    with LOG.open("a") as file: file.write(line + "\\n")
note("script " + shared.cmd_opts.doors_flag)
def settings():
    note("settings")
    import gradio as gr
    section = ("doors", "Doors")
    shared.opts.add_option("doors_one", shared.OptionInfo(True, "One", section=section).info("x"))
    html = shared.OptionInfo("<b>text</b>", "", gr.HTML, section=section)
    html.do_not_save = True
    shared.opts.add_option("doors_html", html)
def tabs():
    note("tabs")
    import gradio as gr
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.HTML("inside the tab of doors")
    return [(blocks, "Doors", "doors")]
script_callbacks.on_ui_settings(settings)
script_callbacks.on_ui_tabs(tabs)
script_callbacks.on_before_ui(lambda: note("before_ui"))
script_callbacks.on_model_loaded(lambda model: note("model_loaded " + model.sd_checkpoint_info.name))
script_callbacks.on_app_started(lambda demo, app: note(f"app_started {demo is None} {app is not None}"))
note(script_callbacks.callback_map["callbacks_app_started"][0].name)
"""


@pytest.fixture(scope="module", autouse=True)
def weights() -> list[Path]:
    return embedded.write_weights(PYTHON)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    scripts = tmp_path / "extensions" / "Doors" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "doors.py").write_text(SCRIPT)
    (scripts.parent / "preload.py").write_text(PRELOAD)
    installer = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()"
    (scripts.parent / "install.py").write_text(installer)
    return tmp_path


def doors(data: Path) -> list[str]:
    return (data / "extensions" / "Doors" / "doors.txt").read_text().splitlines()


def image(server: Server, **changed: Any) -> bytes:
    return base64.b64decode(server.ask("/sdapi/v1/txt2img", {**TINY, **changed})["images"][0])


def test_weights_are_a_gigabyte_and_written_once(weights: list[Path]) -> None:
    assert len(weights) == 5
    assert 0.9e9 < sum(path.stat().st_size for path in weights) < 1.1e9
    before = [path.stat().st_mtime_ns for path in weights]
    assert [path.stat().st_mtime_ns for path in embedded.write_weights(PYTHON)] == before


def test_doors_open_in_forges_order_and_an_extension_that_fails_stops_nothing(data: Path) -> None:
    broken = data / "extensions" / "Broken"
    (broken / "scripts").mkdir(parents=True)
    (broken / "preload.py").write_text("raise RuntimeError('at preload')")
    (broken / "scripts" / "x.py").write_text("raise RuntimeError('at import')")
    with Server(PYTHON, data, ("--nowebui", "--doors-flag", "set")) as server:
        image(server)
        log = server.log()
    assert doors(data) == [
        "preload True False",
        "script set",
        "doors/doors.py/app_started",
        "settings",
        "tabs",
        "before_ui",
        "app_started True True",
        "model_loaded tiny-flux-a.safetensors",
    ]
    assert (data / "extensions" / "Doors" / "ran").exists()
    assert "at preload" in log
    assert "at import" in log


@pytest.mark.both_gradios
def test_doors_open_in_forges_order_with_the_page_and_the_page_has_them(data: Path) -> None:
    with Server(PYTHON, data, ("--api",)) as server:
        page = json.dumps(server.ask("/config"))
        assert server.ask("/sdapi/v1/timings")["simulated"] in (True, False)
    assert doors(data)[3:] == ["before_ui", "settings", "tabs", "app_started False True"]
    for text in ("txt2img_generate", "setting_doors_one", "<b>text</b>", "inside the tab of doors"):
        assert text in page


@pytest.mark.browser
@pytest.mark.both_gradios
def test_generate_on_the_page_shows_an_image_and_reload_ui_comes_back(tmp_path: Path, browser: Any) -> None:
    with Server(PYTHON, tmp_path, ("--api",)) as server:
        page = browser.new_page()
        page.goto(server.url)
        page.click("#txt2img_generate", timeout=60_000)
        page.wait_for_selector("#txt2img_image img", timeout=60_000)
        page.click("#tabs > .tab-nav button:has-text('Settings')")
        page.get_by_role("button", name="Reload UI").click()
        page.wait_for_function("fetch('/config').then(() => false, () => true)", timeout=60_000)
        server.wait_until_up()
        page.goto(server.url)
        page.wait_for_selector("#txt2img_generate", timeout=60_000)
        page.close()


@pytest.mark.browser
@pytest.mark.both_gradios
def test_the_tab_follows_images_and_its_figures_are_the_apis(
    tmp_path: Path, browser: Any, artifacts: Path
) -> None:
    (tmp_path / "extensions").mkdir()
    install(tmp_path / "extensions")
    (tmp_path / "config.json").write_text(json.dumps({"flux_speedup_refresh_s": "2 s"}))
    with Server(PYTHON, tmp_path, ("--api",)) as server:
        page = tab_at_work.opened_tab(browser, server.url)
        says(page, f"{TAB}_head", "simulated device, our stand-in")
        says(page, f"{TAB}_requests", "No image was made")
        image(server, **SMALL)
        says(page, f"{TAB}_requests", "1 image")
        page.locator("button", has_text="txt2img").first.click()
        page.click("#txt2img_generate")
        page.wait_for_selector("#txt2img_image img")
        page.locator("button", has_text="Flux Speedup").first.click()
        says(page, f"{TAB}_requests", "from the page")
        tab_at_work.agrees(page, server.ask)
        tab_at_work.measured(page, server.ask)
        tab_at_work.pictures(page, artifacts, f"embedded-tab-gradio-{MINOR}")
        page.click(f"#{TAB}_free")
        says(page, f"{TAB}_models_said", "615 MB left the device: ")
        tab_at_work.agrees(page, server.ask)
        tab_at_work.exported(page, server.ask)
        tab_at_work.reported(page, ("tiny-flux", "lighthouse", str(tmp_path)))
        tab_at_work.forgotten(page, server.ask)
        tab_at_work.put_back(page, server.ask, "Load times")
        assert page.complaints == []
        page.context.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(PYTHON, tmp_path_factory.mktemp("plain")) as running:
        yield running


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(server: Server) -> None:
    first = image(server)
    assert first.startswith(b"\x89PNG")
    assert image(server) == first
    assert image(server, seed=2) != first
    assert image(server, prompt="a dog") != first


def test_unloading_and_switching_give_the_same_bytes_again(server: Server) -> None:
    first = image(server)
    server.ask("/sdapi/v1/unload-checkpoint", {})
    assert image(server) == first
    server.ask("/sdapi/v1/options", {"sd_model_checkpoint": "tiny-flux-b.safetensors"})
    assert image(server) != first
    server.ask("/sdapi/v1/options", {"sd_model_checkpoint": "tiny-flux-a.safetensors"})
    assert image(server) == first
    assert server.ask("/sdapi/v1/options")["sd_model_checkpoint"].startswith("tiny-flux-a")


def test_little_room_gives_the_same_bytes_and_options_are_saved(tmp_path: Path) -> None:
    with Server(PYTHON, tmp_path, ("--nowebui", "--always-offload-from-vram")) as server:
        first = image(server)
        leaves_300_mb = {"forge_inference_memory": 80 * 1024 - 300, "forge_pin_shared_memory": "Shared"}
        server.ask("/sdapi/v1/options", leaves_300_mb)
        assert image(server) == first
    saved = json.loads((tmp_path / "config.json").read_text())
    assert leaves_300_mb.items() <= saved.items()


def test_frozen_settings_are_read_and_refuse_changes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"forge_pin_shared_memory": "Shared"}')
    with Server(PYTHON, tmp_path, ("--nowebui", "--freeze-settings")) as server:
        image(server)
        assert server.ask("/sdapi/v1/options")["forge_pin_shared_memory"] == "Shared"
        with pytest.raises(PhaseError, match="500"):
            server.ask("/sdapi/v1/options", {"forge_inference_memory": 1024})


def test_api_auth_guards_the_api(tmp_path: Path) -> None:
    with Server(PYTHON, tmp_path, ("--nowebui", "--api-auth", "ann:secret,bob:word")) as server:
        request = urllib.request.Request(server.url + "/sdapi/v1/options")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code == 401
        assert refused.value.headers["WWW-Authenticate"] == "Basic"
        refused.value.close()
        request.add_header("Authorization", "Basic " + base64.b64encode(b"bob:word").decode())
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200


def test_once_compares_and_writes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "once.json"
    assert once(file, PYTHON) == 0
    found = json.loads(file.read_text())
    keys = {"start_s", "load_s", "move_s", "unload_s", "switch_s", "switch_back_s", "images"}
    for run in (found["without"], found["with"]):
        assert keys <= set(run)
        assert all(run[key] > 0 for key in keys - {"images"})
        assert len(run["images"]) == 3
        assert len({picture["sha256"] for picture in run["images"]}) == 3
    assert found["with"]["extension"]["enabled"] is True
    items = found["with"]["extension"]["outcomes"]
    assert [each for each in items if each["state"] == "failed"] == []
    head = capsys.readouterr().out.splitlines()[0]
    assert (head == "simulated device, our stand-in") is found["simulated"]
