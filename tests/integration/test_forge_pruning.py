"""A real Forge with a page, without and with us: what is not loaded, refused, served, and brought back."""

from __future__ import annotations

import base64
import io
import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flux_speedup.pruning.catalog import LEFT_OUT
from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, Forge
from tests.integration.tiny_flux import COMMON


def picture() -> str:
    """A grey image as the API takes it."""
    held = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(held, "PNG")
    return base64.b64encode(held.getvalue()).decode()


PICTURE = picture()
IDLE = {
    "ControlNet": {"args": [{"enabled": False, "model": "canny"}]},
    "Kohya HRFix Integrated": {"args": [False, 3, 2.0, 0, 0.35, True]},
}
NAMED = {**COMMON, "prompt": "a cat", "alwayson_scripts": {"Probe": {"args": ["it reached me"]}}}


def start(forge_dir: Path, data: Path, extensions: dict[str, Path]) -> Forge:
    options = tiny_flux.options(tiny_flux.write_all(data / "models"))
    return Forge(
        forge_dir,
        data,
        flags=("--api", "--unet-in-bf16", "--enable-insecure-extension-access"),
        extensions=extensions,
        options=options,
        environ={"PROBE_TINY": "1"},
    )


@pytest.fixture(scope="module")
def without(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Forge by itself has loaded and registered, and the image it makes."""
    with start(forge_dir, tmp_path_factory.mktemp("without"), {}) as forge:
        return {**forge.get("/probe/listing"), "image": forge.post("/sdapi/v1/txt2img", NAMED)}


@pytest.fixture(scope="module")
def forge(
    forge_dir: Path, tmp_path_factory: pytest.TempPathFactory, without: dict[str, Any]
) -> Iterator[Forge]:
    with start(forge_dir, tmp_path_factory.mktemp("with"), {"flux-speedup": EXTENSION}) as running:
        yield running


def stems(listing: dict[str, Any]) -> set[str]:
    return {Path(file).stem for file in listing["loaded"] if "/scripts/" in file}


def refused(forge: Forge, path: str, body: dict[str, Any]) -> str:
    with pytest.raises(urllib.error.HTTPError) as answer:
        forge.post(path, body)
    with answer.value:
        assert answer.value.code == 422, answer.value.read()
        return str(json.load(answer.value)["detail"])


def test_the_36_are_loaded_without_and_not_with(forge: Forge, without: dict[str, Any]) -> None:
    assert set(LEFT_OUT) <= stems(without)
    listing = forge.get("/probe/listing")
    assert not set(LEFT_OUT) & stems(listing)
    assert stems(without) - stems(listing) >= set(LEFT_OUT)
    gone = ("sd_forge_controlnet", "forge_legacy_preprocessors", "SwinIR")
    left = [file for file in listing["loaded"] for name in gone if f"/{name}/" in file]
    # Doors of the WebUI's own parser: they run for disabled extensions as well.
    assert {Path(file).name for file in left} <= {"preload.py"}
    assert "lora_script" in stems(listing)


def test_the_page_has_no_file_of_what_is_gone(forge: Forge, without: dict[str, Any]) -> None:
    page = forge.get("/probe/listing")["page"]
    assert "sd_forge_controlnet/javascript" in without["page"]
    assert "sd_forge_controlnet/javascript" not in page
    assert "prompt-bracket-checker" in page


def test_one_line_at_start_names_what_is_gone(forge: Forge) -> None:
    (line,) = [line for line in forge.our_lines() if "not loaded" in line]
    assert "36 scripts are not loaded" in line
    assert "ControlNet and its preprocessors" in line
    assert "Settings > Flux Speedup" in line
    assert "kept" not in line
    assert "not in this WebUI" not in line


def test_the_extensions_tab_says_so_and_nothing_is_disabled(forge: Forge, without: dict[str, Any]) -> None:
    for _ in range(2):
        listing = forge.get("/probe/listing")
        assert "not loaded by Flux Speedup (Settings &gt; Flux Speedup)" in listing["status"]["SwinIR"]
        assert listing["status"]["sd_forge_lora"] == ""
        assert listing["enabled"] == {**without["enabled"], "flux-speedup": True}
        forge.post("/probe/list-extensions")


def hints(forge: Forge) -> dict[str, str]:
    """Our lines on the page, by the place they are at."""
    props = [each["props"] for each in forge.get("/config")["components"]]
    ours = [each for each in props if str(each.get("elem_id")).startswith("flux_speedup_hint")]
    return {each["elem_id"].removeprefix("flux_speedup_hint_"): each["value"] for each in ours}


def test_the_script_list_and_the_extensions_tab_say_what_is_missing(forge: Forge) -> None:
    said = hints(forge)
    assert "X/Y/Z plot, Prompt matrix, Prompts from file or textbox and 5 more" in said["scripts"]
    assert "36 scripts are not loaded" in said["extensions"]
    assert all("Settings, Flux Speedup" in each for each in said.values())


def test_a_snapshot_of_the_configuration_has_nothing_of_it(forge: Forge, without: dict[str, Any]) -> None:
    found = forge.get("/probe/listing")["snapshot"]["extensions"]
    before = without["snapshot"]["extensions"]
    assert found.pop("flux-speedup")["enabled"] is True
    # The test's own has another path in every start.
    assert found.pop("000-probe").keys() == before.pop("000-probe").keys()
    assert found == before


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("txt2img", {"script_name": "X/Y/Z plot", "script_args": []}, "xyz_grid"),
        ("img2img", {"script_name": "SD upscale", "init_images": [PICTURE]}, "sd_upscale"),
        ("txt2img", {"alwayson_scripts": {"ControlNet": {"args": [{"model": "canny"}]}}}, "controlnet"),
        ("txt2img", {"enable_hr": True, "hr_upscaler": "SwinIR 4x"}, "swinir_model"),
        (
            "img2img",
            {"init_images": [PICTURE], "override_settings": {"upscaler_for_img2img": "ScuNET"}},
            "scunet",
        ),
        (
            "txt2img",
            {"alwayson_scripts": {"ADetailer": {"args": [{"ad_controlnet_model": "x"}]}}},
            "controlnet",
        ),
        ("extra-single-image", {"image": PICTURE, "codeformer_visibility": 1}, "postprocessing_codeformer"),
        ("extra-batch-images", {"imageList": [], "upscaler_1": "ScuNET GAN"}, "scunet_model"),
    ],
)
def test_a_request_that_needs_it_gets_422_with_its_name(
    forge: Forge, path: str, body: dict[str, Any], says: str
) -> None:
    detail = refused(
        forge, f"/sdapi/v1/{path}", {**COMMON, "prompt": "a cat", **body} if "img" in path[:7] else body
    )
    assert says in detail
    assert "Settings > Flux Speedup" in detail


def test_the_routes_of_controlnet_say_why_they_are_not_there(forge: Forge) -> None:
    with pytest.raises(urllib.error.HTTPError) as answer:
        forge.get("/controlnet/model_list")
    with answer.value:
        assert answer.value.code == 404
        assert "--flux-speedup-keep controlnet" in json.load(answer.value)["detail"]


def test_the_image_is_the_same_and_named_arguments_reach_their_script(
    forge: Forge, without: dict[str, Any]
) -> None:
    plain = forge.post("/sdapi/v1/txt2img", NAMED)
    assert "Probe: it reached me" in json.loads(plain["info"])["infotexts"][0]
    assert plain["images"] == without["image"]["images"]
    idle = forge.post(
        "/sdapi/v1/txt2img", {**NAMED, "alwayson_scripts": {**IDLE, **NAMED["alwayson_scripts"]}}
    )
    assert idle["images"] == plain["images"]


def test_extras_without_any_of_it_are_served(forge: Forge) -> None:
    answer = forge.post("/sdapi/v1/extra-single-image", {"image": PICTURE, "upscaler_1": "Lanczos"})
    assert answer["image"]


def test_the_start_is_recorded_with_what_was_in_force(forge: Forge) -> None:
    events = forge.get("/flux-speedup/v1/stats?kind=startup")["events"]
    (total,) = [event for event in events if event["what"] == "total"]
    assert total["detail"] == "36 scripts left out; fast callbacks; apps when needed; with page"
    assert total["seconds"] > 1


def test_the_button_disables_in_the_webui_and_its_undo_takes_exactly_that_away(forge: Forge) -> None:
    def saved() -> list[str]:
        return list(json.loads((forge.data / "config.json").read_text())["disabled_extensions"])

    forge.post("/sdapi/v1/options", {"disabled_extensions": ["mobile"]})
    said = forge.post("/probe/disable-left-out")["said"]
    assert "sd_forge_controlnet" in said
    assert {"mobile", "sd_forge_controlnet", "SwinIR", "forge_legacy_preprocessors"} <= set(saved())
    assert not {"sd_forge_lora", "flux-speedup", "000-probe", "prompt-bracket-checker"} & set(saved())
    forge.reload_ui()
    listing = forge.get("/probe/listing")
    assert listing["enabled"]["SwinIR"] is False
    assert "Undo" in refused(
        forge, "/sdapi/v1/txt2img", {**COMMON, "enable_hr": True, "hr_upscaler": "SwinIR 4x"}
    )
    forge.post("/probe/undo-disabled")
    assert saved() == ["mobile"]
    forge.post("/sdapi/v1/options", {"disabled_extensions": []})


# The last one: it changes what the others look at.
def test_reload_ui_keeps_it_and_switched_off_brings_everything_back(
    forge: Forge, without: dict[str, Any]
) -> None:
    forge.reload_ui()
    assert not set(LEFT_OUT) & stems(forge.get("/probe/listing"))
    refused(forge, "/sdapi/v1/txt2img", {**COMMON, "script_name": "X/Y/Z plot"})
    assert sorted(hints(forge)) == ["extensions", "scripts"]
    forge.post("/sdapi/v1/options", {"flux_speedup_pruning": "off"})
    forge.reload_ui()
    listing = forge.get("/probe/listing")
    assert set(LEFT_OUT) <= stems(listing)
    assert listing["titles"] == without["titles"]
    assert hints(forge) == {}
    assert listing["status"]["SwinIR"] == ""
    assert not any("not loaded" in status for status in listing["status"].values())
    assert forge.get("/controlnet/model_list") == {"model_list": ["None"]}
    for what in ("callbacks", "order"):
        found = {
            category: [name for name in names if not name.startswith("flux-speedup/")]
            for category, names in listing[what].items()
        }
        assert found == without[what]
