"""Requests that need what is left out are refused by name; those that only seem to are served."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flux_speedup.pruning.catalog import LEFT_OUT
from flux_speedup.pruning.decision import Decision
from flux_speedup.pruning.requests import Asked, extras_refusal, refusal, without_idle

ALL = Decision(frozenset(LEFT_OUT), upscalers={"swinir_model": frozenset({"my_swin"})})
UNIT = {"model": "canny", "module": "canny"}


@pytest.mark.parametrize(
    ("asked", "says", "stem"),
    [
        (Asked(script="X/Y/Z plot"), "'X/Y/Z plot'", "xyz_grid"),
        (Asked(script="sd UPSCALE", img2img=True), "'sd UPSCALE'", "sd_upscale"),
        (Asked(always_on={"ControlNet": {"args": [UNIT]}}), "'ControlNet'", "controlnet"),
        (Asked(always_on={"controlnet": {"args": [{"enabled": False}, UNIT]}}), "'controlnet'", "controlnet"),
        (Asked(always_on={"Kohya HRFix Integrated": {"args": [True, 3]}}), "Kohya", "kohya_hrfix"),
        (Asked(always_on={"Never OOM Integrated": {"args": [False, True]}}), "Never OOM", "forge_never_oom"),
        (Asked(hires_upscaler="SwinIR 4x"), "'SwinIR 4x'", "swinir_model"),
        (Asked(hires_upscaler="my_swin"), "'my_swin'", "swinir_model"),
        (Asked(img2img=True, settings={"upscaler_for_img2img": "ScuNET"}), "'ScuNET'", "scunet_model"),
        (Asked(infotext={"freeu_enabled": "True"}), "freeu_enabled", "forge_freeu"),
        (Asked(infotext={"ControlNet 0": "Module: canny"}), "ControlNet 0", "controlnet"),
        (
            Asked(always_on={"ADetailer": {"args": [True, False, {"ad_controlnet_model": "inpaint [1]"}]}}),
            "ad_controlnet_model 'inpaint [1]'",
            "controlnet",
        ),
    ],
)
def test_what_needs_it_is_refused_with_its_name_and_the_way_back(asked: Asked, says: str, stem: str) -> None:
    why = refusal(asked, ALL)
    assert why is not None
    assert says in why
    assert f"--flux-speedup-keep {stem}" in why
    assert "Settings > Flux Speedup" in why
    assert refusal(asked, Decision()) is None
    assert refusal(asked, replace(ALL, left_out=ALL.left_out - {stem})) is None


@pytest.mark.parametrize(
    "asked",
    [
        Asked(),
        Asked(script="", always_on={}),
        Asked(script="Custom code", always_on={"Sampler": {"args": [20]}, "ADetailer": {"args": [True]}}),
        Asked(always_on={"ControlNet": {}, "FreeU Integrated": {"args": []}}),
        Asked(always_on={"ControlNet": {"args": [{"enabled": False, **UNIT}, None, {"enabled": False}]}}),
        Asked(always_on={"Kohya HRFix Integrated": {"args": [False, 3, 2.0, 0, 0.35, True]}}),
        Asked(hires_upscaler="Latent"),
        Asked(hires_upscaler="SwinIR of ESRGAN", available=frozenset({"SwinIR of ESRGAN"})),
        Asked(settings={"upscaler_for_img2img": "SwinIR 4x"}),
        Asked(img2img=True, settings={"upscaler_for_img2img": None}),
        Asked(infotext={"freeu_enabled": "False", "ControlNet version": "1", "Steps": "20"}),
        Asked(always_on={"ADetailer": {"args": [True, {"ad_controlnet_model": "None"}]}}),
        Asked(always_on={"ADetailer": {"args": [False, {"ad_controlnet_model": "canny"}]}}),
        Asked(always_on={"ADetailer": {"args": [{"ad_tab_enable": False, "ad_controlnet_model": "canny"}]}}),
    ],
)
def test_what_does_not_need_it_is_served(asked: Asked) -> None:
    assert refusal(asked, ALL) is None


def test_disabled_units_go_and_all_other_arguments_stay_as_they_are() -> None:
    mine = {"args": [1, {"a": 2}]}
    given = {
        "ControlNet": {"args": [{"enabled": False}]},
        "Mine": mine,
        "FreeU Integrated": {"args": [False]},
    }
    assert without_idle(given, ALL) == {"Mine": mine}
    assert without_idle(given, ALL)["Mine"] is mine
    assert without_idle(given, Decision()) == given


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"gfpgan_visibility": 0.5}, "GFPGAN"),
        ({"codeformer_visibility": 1}, "CodeFormer"),
        ({"upscaler_1": "SwinIR 4x"}, "SwinIR 4x"),
        ({"upscaler_1": "None", "upscaler_2": "ScuNET", "extras_upscaler_2_visibility": 0.1}, "ScuNET"),
    ],
)
def test_extras_that_need_it_are_refused(fields: dict[str, object], says: str) -> None:
    why = extras_refusal(fields, frozenset(), ALL)
    assert why is not None
    assert says in why


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"gfpgan_visibility": 0, "codeformer_visibility": 0.0, "upscaler_1": "None", "upscaler_2": "None"},
        {"upscaler_1": "Lanczos", "upscaler_2": "SwinIR 4x", "extras_upscaler_2_visibility": 0},
    ],
)
def test_extras_that_do_not_need_it_are_served(fields: dict[str, object]) -> None:
    assert extras_refusal(fields, frozenset({"Lanczos"}), ALL) is None


def test_what_our_button_disabled_is_brought_back_by_its_undo() -> None:
    why = refusal(Asked(script="X/Y/Z plot"), Decision(disabled=frozenset({"xyz_grid"})))
    assert why is not None
    assert "Undo" in why
    assert "--flux-speedup-keep" not in why
