"""What is left out and what is kept: every rule, alone and against the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from flux_speedup.pruning.catalog import BY_STEM, ENTRIES, GROUPS, LEFT_OUT
from flux_speedup.pruning.decision import Decision, decide
from flux_speedup.pruning.surroundings import Folder, Surroundings, Wishes

CORE = ("custom_code", "postprocessing_upscale", *(e.stem for e in ENTRIES if e.group == "group_batch"))
FACES = ("postprocessing_codeformer", "postprocessing_gfpgan", "postprocessing_focal_crop")


def builtin(name: str, *scripts: str, packages: tuple[str, ...] = ()) -> Folder:
    return Folder(name, f"/builtin/{name}", True, True, scripts, packages=packages)


def installed(name: str, *scripts: str, requires: tuple[str, ...] = ()) -> Folder:
    return Folder(name, f"/extensions/{name}", False, True, scripts, frozenset(requires))


CONTROLNET = builtin("sd_forge_controlnet", "controlnet", "xyz_grid_support", packages=("lib_controlnet",))
OTHERS = tuple(
    builtin(f"folder_{stem}", stem) for stem in LEFT_OUT if stem not in (*CORE, *FACES, *CONTROLNET.scripts)
)
FORGE = Surroundings(
    (*CORE, *FACES),
    (CONTROLNET, *OTHERS, builtin("sd_forge_lora", "lora_script"), installed("us", "flux_speedup")),
)
LIST = Wishes(LEFT_OUT)


def with_folder(folder: Folder) -> Surroundings:
    return replace(FORGE, folders=(*FORGE.folders, folder))


def speaking(words: Mapping[str, str]) -> Surroundings:
    """Forge with extensions whose code says `words`."""
    return replace(FORGE, mentions=lambda _: lambda asked: {w: who for w, who in words.items() if w in asked})


def kept(here: Surroundings, wishes: Wishes = LIST) -> dict[str, str]:
    decided = decide(here, wishes)
    assert not decided.left_out & decided.kept.keys()
    return dict(decided.kept)


def test_the_catalog_has_28_and_8_in_six_groups() -> None:
    assert len(LEFT_OUT) == len(set(LEFT_OUT)) == 36
    assert sum(entry.group == "group_batch" for entry in ENTRIES) == 8
    assert {entry.group for entry in ENTRIES} == set(GROUPS)
    assert len(GROUPS) == 6
    assert all(entry.part_of in BY_STEM for entry in ENTRIES if entry.part_of)


def test_where_nobody_uses_anything_all_36_are_left_out() -> None:
    decided = decide(FORGE, LIST)
    assert decided.left_out == set(LEFT_OUT)
    assert decided.kept == {}
    assert decided.unmatched == ()
    assert CONTROLNET.path in decided.folders
    assert not any("lora" in path or path.endswith("us") for path in decided.folders)
    assert decided.partly == frozenset()


def test_an_empty_list_leaves_nothing_out() -> None:
    assert decide(FORGE, Wishes(())) == Decision(upscalers=decide(FORGE, Wishes(())).upscalers)


@pytest.mark.parametrize("pattern", ["*", "lora*", "LORA_SCRIPT.py", "flux_speedup"])
def test_lora_and_we_ourselves_always_stay(pattern: str) -> None:
    decided = decide(FORGE, Wishes((pattern,)))
    assert not {"lora_script", "flux_speedup"} & decided.left_out
    assert "it always stays" in decided.kept.values()


def test_patterns_and_names_that_match_nothing() -> None:
    decided = decide(FORGE, Wishes(("PREPROCESSOR_*", "loopback.py", "no_such_script", "typo[")))
    assert decided.left_out == {*(s for s in LEFT_OUT if s.startswith("preprocessor_")), "loopback"}
    assert decided.unmatched == ("no_such_script", "typo[")


def test_a_name_of_a_disabled_extension_is_no_typing_error_and_its_scripts_are_not_ours() -> None:
    disabled = replace(CONTROLNET, enabled=False)
    decided = decide(replace(FORGE, folders=(disabled, *FORGE.folders[1:])), LIST)
    assert decided.unmatched == ()
    assert "controlnet" not in decided.left_out | decided.kept.keys()


def test_keep_by_name_by_pattern_and_by_group() -> None:
    assert kept(FORGE, replace(LIST, keep=("loopback", "sd_*"))) == {
        "loopback": "keep names it (loopback)",
        "sd_upscale": "keep names it (sd_*)",
    }
    decided = decide(FORGE, replace(LIST, groups={"group_batch": "keep"}))
    assert decided.left_out == set(LEFT_OUT) - {e.stem for e in ENTRIES if e.group == "group_batch"}


def test_a_group_can_be_left_out_though_the_list_does_not_name_it() -> None:
    decided = decide(FORGE, Wishes((), groups={"group_upscalers": "leave out"}))
    assert decided.left_out == {e.stem for e in ENTRIES if e.group == "group_upscalers"}


def test_leave_out_wins_over_settings_but_not_over_keep_or_who_needs_it() -> None:
    here = replace(
        FORGE, options={"upscaler_for_img2img": "SwinIR 4x"}, controlnet_weight="canny.safetensors"
    )
    out = {"group_upscalers": "leave out", "group_controlnet": "leave out"}
    assert not kept(here, replace(LIST, groups={"group_upscalers": "leave out"})).get("swinir_model")
    assert "controlnet" not in kept(here, replace(LIST, groups=out))
    assert "swinir_model" in kept(here, replace(LIST, groups=out, keep=("swinir_model",)))
    needing = replace(with_folder(installed("needs", "needs", requires=("sd_forge_controlnet",))))
    assert kept(needing, replace(LIST, groups=out))["controlnet"] == "needs requires it"


@pytest.mark.parametrize(
    ("requires", "stems"),
    [
        ("sd_forge_controlnet", {"controlnet", "xyz_grid_support"}),
        ("builtin/sd_forge_controlnet/controlnet.py", {"controlnet", "xyz_grid_support"}),
        ("folder_forge_sag", {"forge_sag"}),
        ("xyz_grid.py", {"xyz_grid"}),
        ("something_else", set()),
    ],
)
def test_what_metadata_requires_stays(requires: str, stems: set[str]) -> None:
    found = kept(with_folder(installed("needs", "needs", requires=(requires,))))
    assert stems <= found.keys()
    if "controlnet" not in stems:
        assert found.keys() == stems


def test_what_a_disabled_or_a_listed_extension_requires_does_not_count() -> None:
    disabled = replace(installed("needs", "needs", requires=("folder_forge_sag",)), enabled=False)
    assert kept(with_folder(disabled)) == {}
    listed = replace(builtin("folder_x", "kohya_hrfix"), requires=frozenset({"folder_forge_sag"}))
    assert kept(with_folder(listed)) == {}


def test_xyz_grid_looked_up_by_name_stays() -> None:
    assert kept(speaking({"xyz_grid": "hypertile"})) == {"xyz_grid": "hypertile refers to it"}


def test_a_package_imported_elsewhere_keeps_controlnet_whole() -> None:
    found = kept(speaking({"lib_controlnet": "a-poser"}))
    assert found["controlnet"] == "a-poser refers to it"
    assert found.keys() == {"controlnet", *(e.stem for e in ENTRIES if e.part_of == "controlnet")}


def test_the_names_of_files_alone_are_no_reference() -> None:
    asked: list[frozenset[str]] = []
    here = replace(FORGE, mentions=lambda _: lambda words: asked.append(words) or {})  # type: ignore[func-returns-value]
    decide(here, LIST)
    assert {"lib_controlnet", "sd_forge_controlnet", "xyz_grid"} <= asked[0]
    assert not {"loopback", "loopback.py", "controlnet"} & asked[0]


def test_never_oom_stays_for_a_small_card() -> None:
    assert kept(replace(FORGE, small_card=True)) == {"forge_never_oom": "a small card may need it"}


def test_controlnet_stays_whole_where_there_is_a_weight() -> None:
    found = kept(replace(FORGE, controlnet_weight="canny.safetensors"))
    assert "canny.safetensors" in found["controlnet"]
    assert found["legacy_preprocessors"] == "it goes with controlnet"
    assert len(found) == 13


def test_a_preprocessor_that_is_kept_keeps_what_it_is_for() -> None:
    assert {"controlnet", "preprocessor_tile", "legacy_preprocessors"} <= kept(
        FORGE, replace(LIST, keep=("preprocessor_tile",))
    ).keys()


@pytest.mark.parametrize("value", ["None", "Passthrough", "", None])
def test_adetailer_without_a_controlnet_model_keeps_nothing(value: object) -> None:
    defaults = {"customscript/!adetailer.py/txt2img/ControlNet model/value": value}
    assert kept(replace(FORGE, ui_defaults=defaults)) == {}


def test_adetailers_controlnet_keeps_it() -> None:
    defaults = {"customscript/!adetailer.py/img2img/ControlNet model 2nd/value": "control_v11p [123]"}
    assert "ADetailer" in kept(replace(FORGE, ui_defaults=defaults))["controlnet"]


@pytest.mark.parametrize(
    ("key", "value", "stem"),
    [
        ("txt2img/Upscaler/value", "SwinIR 4x", "swinir_model"),
        ("txt2img/Upscaler/value", "ScuNET GAN", "scunet_model"),
        ("extras/Upscaler 1/value", "my_swin_weight", "swinir_model"),
        ("txt2img/Script/value", "X/Y/Z plot", "xyz_grid"),
        ("img2img/Script/value", "SD upscale", "sd_upscale"),
        ("customscript/kohya_hrfix.py/txt2img/Kohya HRFix Integrated/value", True, "kohya_hrfix"),
        ("txt2img/FreeU Integrated (SD 1.x, SD 2.x, SDXL)/value", True, "forge_freeu"),
        ("customscript/forge_multidiffusion.py/txt2img/Enabled/value", True, "forge_multidiffusion"),
        ("txt2img/ControlNet Unit 0/value", True, "controlnet"),
        ("customscript/forge_stylealign.py/txt2img/Share attention in batch/value", True, "forge_stylealign"),
        ("extras/CodeFormer/value", True, "postprocessing_codeformer"),
        (
            "customscript/forge_never_oom.py/txt2img/Enabled for VAE (always tiled)/value",
            True,
            "forge_never_oom",
        ),
    ],
)
def test_a_default_of_the_page_that_uses_it_keeps_it(key: str, value: object, stem: str) -> None:
    here = replace(FORGE, ui_defaults={key: value}, upscalers={"swinir_model": frozenset({"my_swin_weight"})})
    assert key in kept(here)[stem]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("txt2img/Upscaler/value", "Latent"),
        ("txt2img/Script/value", "None"),
        ("customscript/kohya_hrfix.py/txt2img/Downscale After Skip/value", True),
        ("customscript/xyz_grid.py/txt2img/Draw legend/value", True),
        ("customscript/forge_multidiffusion.py/txt2img/Enabled/visible", True),
        ("customscript/forge_multidiffusion.py/txt2img/Enabled/value", False),
        ("customscript/another.py/txt2img/ControlNet Unit 0/value", True),
        ("customscript/postprocessing_codeformer.py/extras/Visibility/value", 1.0),
        ("value", True),
        ("a/value", "SwinIR 4x"),
        ("txt2img/Face restoration model/value", "CodeFormer"),
        ("customscript/another.py/txt2img/Name/value", "Loopback"),
    ],
)
def test_a_default_of_the_page_that_uses_nothing_keeps_nothing(key: str, value: object) -> None:
    assert kept(replace(FORGE, ui_defaults={key: value})) == {}


def test_saved_settings_that_select_keep_and_lists_that_hide_do_not() -> None:
    chosen = {"upscaler_for_img2img": "SwinIR 4x", "postprocessing_enable_in_main_ui": ["GFPGAN"]}
    assert kept(replace(FORGE, options=chosen)).keys() == {"swinir_model", "postprocessing_gfpgan"}
    hidden = {
        "postprocessing_disable_in_extras": ["GFPGAN"],
        "postprocessing_operation_order": ["CodeFormer"],
        "disabled_extensions": ["SwinIR"],
        # Texts that happen to be a title, of settings that choose something else.
        "face_restoration_model": "CodeFormer",
        "samples_filename_pattern": "Loopback",
        "outdir_samples": "X/Y/Z plot",
        "some_list": ["Prompt matrix", "SwinIR 4x"],
        "flux_speedup_keep": "Loopback",
        "some_number": 3,
    }
    assert kept(replace(FORGE, options=hidden)) == {}


@pytest.mark.parametrize("name", ["SwinIR 4x", "swinir", "SWINIR 4x of mine", "SwinIR_4x"])
def test_an_upscaler_is_known_by_the_first_word_of_its_name(name: str) -> None:
    expected = set() if "_" in name else {"swinir_model"}
    assert kept(replace(FORGE, options={"upscaler_for_img2img": name})).keys() == expected
    assert kept(replace(FORGE, options={"upscaler_for_img2img": f"4x {name}"})) == {}


def test_an_extension_that_the_user_installed_is_left_out_whole_or_not_at_all() -> None:
    mixed = installed("sd-webui-controlnet", "controlnet", "external_code")
    here = Surroundings(("loopback",), (mixed,))
    assert kept(here) == {"controlnet": "sd-webui-controlnet has other scripts"}
    whole = replace(mixed, scripts=("controlnet", "xyz_grid_support"))
    assert decide(replace(here, folders=(whole,)), LIST).folders == {whole.path}


def test_a_builtin_extension_may_lose_a_part() -> None:
    training = builtin("postprocessing-for-training", "postprocessing_focal_crop", "postprocessing_caption")
    decided = decide(Surroundings(("loopback",), (training,)), LIST)
    assert decided.left_out == {"loopback", "postprocessing_focal_crop"}
    assert (decided.folders, decided.partly) == (frozenset(), {training.path})


def test_what_our_button_disabled_is_still_known_and_said_when_it_is_needed() -> None:
    disabled = replace(CONTROLNET, enabled=False)
    here = replace(
        FORGE,
        folders=(disabled, *FORGE.folders[1:]),
        disabled_by_us=frozenset({disabled.name}),
        controlnet_weight="canny.safetensors",
    )
    decided = decide(here, LIST)
    assert decided.disabled == {"controlnet", "xyz_grid_support"}
    assert "controlnet" in {entry.stem for entry in decided.entries()}
    assert decided.held_back.keys() == {"controlnet"}
    assert disabled.path not in decided.folders
