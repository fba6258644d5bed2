"""The embedded WebUI: its doors in their order, its API, its page, and images that do not change."""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from launcher import embedded
from launcher.install import install
from launcher.once import once
from launcher.report import NO_FIGURES
from launcher.server import Server
from tests import tab_at_work
from tests.served import MINOR, says
from tests.tab_at_work import TAB
from tests.waiting import PATIENCE_S

PYTHON = Path(sys.executable)
SMALL = {"prompt": "a lighthouse", "seed": 3}
NEEDS_A_GPU = {"process_share", "streams"}
ASKED_FOR_ONLY = {"cudnn_benchmark", "packed"}  # off unless somebody asks for it
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


def test_weights_are_written_once(weights: list[Path]) -> None:
    assert len(weights) == 6
    assert 0.6e9 < sum(path.stat().st_size for path in weights) < 0.8e9
    before = [path.stat().st_mtime_ns for path in weights]
    assert [path.stat().st_mtime_ns for path in embedded.write_weights(PYTHON)] == before


def test_doors_open_in_forges_order_and_what_is_wrong_stops_nothing(data: Path) -> None:
    broken = data / "extensions" / "Broken"
    (broken / "scripts").mkdir(parents=True)
    (broken / "preload.py").write_text("raise RuntimeError('at preload')")
    (broken / "scripts" / "x.py").write_text("raise RuntimeError('at import')")
    with Server(PYTHON, data, ("--nowebui", "--doors-flag", "set")) as server:
        first = image(server)
        assert first.startswith(b"\x89PNG")
        assert image(server) == first
        assert image(server, seed=2) != first
        assert image(server, prompt="a cat <lora:no-such-file:1>") != first  # its name is in the text
        assert image(server, script_name="X/Y/Z plot") != first
        shared = {"forge_pin_shared_memory": "Shared"}
        server.ask("/sdapi/v1/options", shared)
        log = server.log()
        refused = [
            posted(server, {**TINY, **wrong}) for wrong in ({"steps": "many"}, {"script_name": "none"})
        ]
    assert refused == [422, 422]
    assert shared.items() <= json.loads((data / "config.json").read_text()).items()
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


def posted(server: Server, body: dict[str, Any], password: str = "") -> int:
    """The status that a POST for an image is answered with."""
    request = urllib.request.Request(f"{server.url}/sdapi/v1/txt2img", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(password.encode()).decode())
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.browser
@pytest.mark.both_gradios
def test_the_page_opens_its_doors_makes_an_image_and_comes_back_after_reload_ui(
    data: Path, browser: Any
) -> None:
    with Server(PYTHON, data, ("--api",)) as server:
        shown = json.dumps(server.ask("/config"))
        assert server.ask("/sdapi/v1/timings")["simulated"] in (True, False)
        assert doors(data)[3:] == ["before_ui", "settings", "tabs", "app_started False True"]
        for text in ("txt2img_generate", "setting_doors_one", "<b>text</b>", "inside the tab of doors"):
            assert text in shown
        assert f"up, in a browser: {server.url}" in server.log()
        page = browser.new_page()
        page.goto(server.url)
        page.click("#txt2img_generate", timeout=PATIENCE_S * 1000)
        page.wait_for_selector("#txt2img_image img", timeout=PATIENCE_S * 1000)
        page.click("#tabs > .tab-nav button:has-text('Settings')")
        page.get_by_role("button", name="Reload UI").click()
        page.wait_for_function("fetch('/config').then(() => false, () => true)", timeout=PATIENCE_S * 1000)
        server.wait_until_up()
        page.goto(server.url)
        page.wait_for_selector("#txt2img_generate", timeout=PATIENCE_S * 1000)
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
        page.wait_for_selector("#txt2img_image img", timeout=PATIENCE_S * 1000)
        page.locator("button", has_text="Flux Speedup").first.click()
        says(page, f"{TAB}_requests", "from the page")
        tab_at_work.agrees(page, server.ask)
        tab_at_work.measured(page, server.ask)
        tab_at_work.pictures(page, artifacts, f"embedded-tab-gradio-{MINOR}")
        page.click(f"#{TAB}_free")
        says(page, f"{TAB}_models_said", "363 MB left the device: ")
        tab_at_work.agrees(page, server.ask)
        tab_at_work.exported(page, server.ask)
        tab_at_work.reported(page, ("tiny-flux", "lighthouse", str(tmp_path)))
        tab_at_work.forgotten(page, server.ask)
        tab_at_work.put_back(page, server.ask, "Load times")
        assert page.complaints == []
        page.context.close()


def test_frozen_settings_are_read_and_refuse_changes_and_a_password_guards_the_api(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"forge_pin_shared_memory": "Shared"}')
    flags = ("--nowebui", "--freeze-settings", "--api-auth", "ann:secret,bob:word")
    with Server(PYTHON, tmp_path, flags) as server:
        assert posted(server, TINY) == 401
        assert posted(server, TINY, "bob:secret") == 401
        assert posted(server, TINY, "bob:word") == 200
        changed = {"override_settings": {"forge_pin_shared_memory": "CPU"}}
        assert posted(server, {**TINY, **changed}, "bob:word") == 500
    assert "changing settings is disabled" in server.log()


def test_once_compares_both_and_every_change_that_needs_no_gpu_was_in_force_and_at_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "once.json"
    assert once(file, PYTHON) == 0
    found = json.loads(file.read_text())
    keys = {"start_s", "load_s", "move_s", "unload_s", "switch_s", "switch_back_s"}
    for run in (found["without"], found["with"]):
        assert keys <= set(run)
        assert all(run[key] > 0 for key in keys)
        # Three seeds, two weights of a LoRA, another checkpoint: seven pictures, some of them made again.
        kinds = ("images", "lora_images", "switch_images", "little_images")
        assert len({each["sha256"] for kind in kinds for each in run[kind]}) == 6
    assert found["with"]["extension"]["enabled"] is True
    states = {each["item"]: each["state"] for each in found["with"]["extension"]["outcomes"]}
    if found["simulated"]:
        assert {item for item, state in states.items() if state != "applied"} == NEEDS_A_GPU | ASKED_FOR_ONLY
    shown = found["with"]["shown"]
    assert shown["kept_checkpoints_used_again"] == 1
    assert shown["weights_from_files"] >= 8
    assert shown["streamed_bytes_a_step"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[:2] == ["simulated device, our stand-in", NO_FIGURES]) is found["simulated"]
