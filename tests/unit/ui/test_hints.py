"""Where a script is missed, a line says so; where nothing is left out, there is none. With both gradios."""

from __future__ import annotations

import gradio as gr
import pytest

from flux_speedup.pruning.decision import Decision
from flux_speedup.ui.hints import EXTENSIONS, SCRIPT_LIST, Hints
from tests.page import Tags

BATCH = ("prompt_matrix", "prompts_from_file", "xyz_grid", "loopback", "sd_upscale")


def page(decision: Decision | None) -> dict[str, str]:
    """What the page holds of ours, by place, built as a WebUI builds it."""
    hints = Hints(lambda: decision)
    with gr.Blocks() as blocks, gr.Column():
        for name in ("txt2img_prompt", SCRIPT_LIST, EXTENSIONS):
            hints.before_component(None, elem_id=name)
            gr.Textbox(elem_id=name)
            hints.after_component(None, elem_id=name)
        hints.after_component(None)
    components = blocks.get_config_file()["components"]
    order = [str(each["props"].get("elem_id")) for each in components if each["props"].get("elem_id")]
    if "flux_speedup_hint_scripts" in order:
        assert order.index("flux_speedup_hint_scripts") == order.index(SCRIPT_LIST) + 1
    return {
        name.removeprefix("flux_speedup_hint_"): Tags(each["props"]["value"]).text
        for each in components
        if (name := str(each["props"].get("elem_id"))).startswith("flux_speedup_hint")
    }


def test_the_script_list_and_the_extensions_tab_say_what_is_missing_and_where_to_get_it_back() -> None:
    assert page(Decision(frozenset({*BATCH, "controlnet"}))) == {
        "scripts": "X/Y/Z plot, Prompt matrix, Prompts from file or textbox and 2 more: not loaded, "
        "by Flux Speedup. Settings, Flux Speedup brings them back.",
        "extensions": "6 scripts are not loaded, by Flux Speedup. Settings, Flux Speedup brings them back.",
    }


@pytest.mark.parametrize(
    ("decision", "places"),
    [
        (None, []),
        (Decision(), []),
        (Decision(frozenset({"controlnet"})), ["extensions"]),
        (Decision(frozenset({"xyz_grid"})), ["extensions", "scripts"]),
    ],
)
def test_nothing_is_said_where_nothing_is_missing(decision: Decision | None, places: list[str]) -> None:
    assert sorted(page(decision)) == places
