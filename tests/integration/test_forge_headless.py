"""The extension in a real Forge without a page: doors, API, options, every way of installing."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_speedup.pruning.catalog import LEFT_OUT
from tests.integration.forge import EXTENSION, Forge, cloned

GIB = 1 << 30


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cloned(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def large(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Forge headless, its memory manager reporting a card of 80 GB."""
    with Forge(forge_dir, tmp_path_factory.mktemp("large"), environ={"PROBE_CARD_GIB": "80"}) as forge:
        yield forge


def test_large_tier_is_in_force_headless(large: Forge) -> None:
    state = large.state()
    assert state["vram_state"] == "HIGH_VRAM"
    assert state["inference"] == 20 * GIB
    assert state["pinned"] is True
    assert state["streams"] is True
    assert state["options"] == {
        "forge_async_loading": "Async",
        "forge_pin_shared_memory": "Shared",
        "forge_inference_memory": 20 * 1024,
    }
    status = large.get("/flux-speedup/v1/status")
    assert status["tier"] == "large"
    states = {outcome["item"]: outcome["state"] for outcome in status["outcomes"]}
    for item in (
        "vram_state",
        "inference_memory",
        "swap_budget",
        "pinning",
        "streams",
        "statistics",
        "page_loads",
    ):
        assert states[item] == "applied", (item, status)


def test_naming_one_memory_option_over_the_api_leaves_the_others(large: Forge) -> None:
    large.post("/sdapi/v1/options", {"forge_inference_memory": 10 * 1024})
    state = large.state()
    assert state["inference"] == 10 * GIB
    assert (state["streams"], state["pinned"]) == (True, True)
    large.post("/sdapi/v1/options", {"forge_async_loading": "Queue"})
    state = large.state()
    assert state["streams"] is False
    assert (state["inference"], state["pinned"]) == (10 * GIB, True)
    large.post("/sdapi/v1/options", {"forge_async_loading": "Async", "forge_inference_memory": 20 * 1024})


def test_whatever_is_saved_holds_nothing_of_ours(large: Forge) -> None:
    large.post("/sdapi/v1/options", {"samples_format": "webp"})
    saved = json.loads((large.data / "config.json").read_text())
    assert saved["samples_format"] == "webp"
    # As Forge alone saves it: nobody has chosen these.
    assert not {"forge_async_loading", "forge_pin_shared_memory", "forge_inference_memory"} & set(saved)
    assert not [key for key in saved if key.startswith("flux_speedup")]
    assert large.state()["options"]["forge_async_loading"] == "Async"


def test_api_shows_configuration_and_start(large: Forge) -> None:
    rows = {row["key"]: row for row in large.get("/flux-speedup/v1/config")}
    assert {key: rows["tier"][key] for key in ("value", "source", "default")} == {
        "value": "auto",
        "source": "config.json",
        "default": "auto",
    }
    stages = large.get("/flux-speedup/v1/stats?kind=startup")["events"]
    assert {"import torch", "total"} <= {stage["what"] for stage in stages}
    assert "/flux-speedup/v1/status" in large.get("/openapi.json")["paths"]


@pytest.mark.parametrize("path", ["measure", "drop", "remove_traces", "settings"])
def test_nothing_can_be_done_where_forge_refuses_access_to_extensions(large: Forge, path: str) -> None:
    # `--server-name` turns it off.
    with pytest.raises(urllib.error.HTTPError) as refused:
        large.post(f"/flux-speedup/v1/{path}", {"key": None} if path == "drop" else {})
    assert refused.value.code == 403
    assert b"extension access is disabled" in refused.value.read()
    refused.value.close()


def test_settings_section_is_there(large: Forge) -> None:
    assert {"flux_speedup_enabled", "flux_speedup_tier", "flux_speedup_streams"} <= set(
        large.state()["settings"]
    )


def test_the_log_says_in_one_line_what_is_in_force(large: Forge) -> None:
    lines = large.our_lines()
    assert sum("large tier" in line for line in lines) == 1, lines
    assert not any("failed" in line for line in lines), lines


def test_headless_too_nothing_of_the_list_is_loaded_and_the_start_says_so(large: Forge) -> None:
    listing = large.get("/probe/listing")
    assert not set(LEFT_OUT) & {Path(file).stem for file in listing["loaded"] if "/scripts/" in file}
    assert "ControlNet" not in listing["titles"]
    assert "Never OOM Integrated" not in listing["titles"], "a large card needs no rescue"
    assert sum("36 scripts are not loaded" in line for line in large.our_lines()) == 1
    (total,) = [e for e in large.get("/flux-speedup/v1/stats?kind=startup")["events"] if e["what"] == "total"]
    assert total["detail"].endswith("; headless")
    with pytest.raises(urllib.error.HTTPError) as refused:
        large.post("/sdapi/v1/txt2img", {"script_name": "X/Y/Z plot"})
    with refused.value:
        assert refused.value.code == 422


def test_nothing_else_was_written_into_the_checkout(large: Forge, forge_dir: Path) -> None:
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=forge_dir, capture_output=True, text=True, check=True
    )
    assert status.stdout == ""
    assert (large.data / "cache" / "flux-speedup").is_dir()


def test_flags_of_the_user_win_and_frozen_settings_leave_the_attributes(
    forge_dir: Path, tmp_path: Path
) -> None:
    flags = (
        "--nowebui",
        "--api",
        "--always-offload-from-vram",
        "--freeze-settings",
        "--api-auth",
        "me:secret",
    )
    environ = {"PROBE_CARD_GIB": "80", "FLUX_SPEEDUP_PINNING": "perhaps"}
    with Forge(forge_dir, tmp_path, flags=flags, environ=environ) as forge:
        state = forge.state()
        assert (state["inference"], state["pinned"], state["streams"]) == (20 * GIB, True, True)
        assert state["options"]["forge_async_loading"] != "Async"
        login = {"Authorization": f"Basic {base64.b64encode(b'me:secret').decode()}"}
        asked = urllib.request.Request(f"{forge.url}/flux-speedup/v1/status", headers=login)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            outcomes = {o["item"]: o for o in json.load(answer)["outcomes"]}
        assert outcomes["streams"]["state"] == "applied"
        assert "forge_async_loading cannot be set" in outcomes["streams"]["why"]
        assert sum("cannot be set" in line for line in forge.our_lines()) >= 1
        assert any(
            "FLUX" not in line and "pinning" in line and "perhaps" in line for line in forge.our_lines()
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            forge.get("/flux-speedup/v1/status")
        assert refused.value.code == 401
        assert refused.value.headers["WWW-Authenticate"] == "Basic"
        refused.value.close()


def test_turned_off_by_flag_nothing_of_it_is_there(forge_dir: Path, tmp_path: Path) -> None:
    flags = ("--nowebui", "--api", "--flux-speedup-off")
    with Forge(forge_dir, tmp_path, flags=flags, environ={"PROBE_CARD_GIB": "80"}) as forge:
        state = forge.state()
        assert state["vram_state"] == "NORMAL_VRAM"
        assert state["finders"] == []
        assert not any("flux_speedup" in file for file in state["functions"].values())
        assert any("off (command line)" in line for line in forge.our_lines())


def test_a_clone_works_under_any_name_and_without_a_gpu_no_tier_applies(
    forge_dir: Path, tmp_path: Path, clone: Path
) -> None:
    with Forge(forge_dir, tmp_path, extensions={"my-clone": clone}) as forge:
        status = forge.get("/flux-speedup/v1/status")
        assert status["enabled"] is True
        state = forge.state()
        assert (state["vram_state"], state["inference"]) == ("DISABLED", GIB)
        assert any("no GPU" in line for line in forge.our_lines())
        assert "Error" not in "".join(line for line in forge.log().splitlines() if "flux" in line.lower())


def test_folder_and_clone_at_once_run_one_and_say_so(forge_dir: Path, tmp_path: Path, clone: Path) -> None:
    with Forge(forge_dir, tmp_path, extensions={"flux-speedup": EXTENSION, "a-clone": clone}) as forge:
        assert forge.get("/flux-speedup/v1/status")["enabled"] is True
        assert sum("stands down" in line for line in forge.our_lines()) == 1
        assert "Traceback" not in forge.log().split("soft_inpainting")[0]
        assert forge.state()["settings"].count("flux_speedup_tier") == 1
