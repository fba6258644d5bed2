""" "What is changed on this machine right now": items to untick, and one button that puts everything back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..control.acts import Acts
from ..control.control import Control
from ..patching.table import Outcome, State
from ..stats.report import printable
from . import actions, cards
from .assets import STYLE
from .gradios import ours, with_headers
from .words import safe

if TYPE_CHECKING:
    import gradio as gr

    from ..facts.seen import Seen

SURE = "Every change is undone at once, until the next start or until you take it back. Are you sure?"
IN_FORCE_AGAIN = "In force again, but for scripts that are not loaded: these follow at Reload UI."
AGAIN = "The next start applies it again; Settings, Flux Speedup keeps it off."
# Reads are cheap: not queued behind an image. Not offered as an endpoint of gradio's own API.
EVENT: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_name": False}
# More than these are counted and not named.
NAMED = 8
Headers = Mapping[str, str] | None
_LIVE = (State.APPLIED, State.PENDING)


@dataclass(frozen=True)
class Panel:
    """What a page needs: `outputs` take `refreshed`, and events of its own can follow `pressed`.

    `ticked` are the inputs of `followed`: what is ticked, and what was offered.
    """

    outputs: tuple[Any, ...]
    ticked: tuple[Any, Any]
    result: gr.HTML
    pressed: tuple[Any, ...]


def build(
    view: Seen,
    control: Control,
    *,
    label: str = "",
    value: str | None = None,
    elem_id: str | None = None,
    **_more: Any,
) -> gr.HTML:
    """Build the panel inside the Blocks at hand and return its result line.

    Made to be an option's `component`: the WebUI posts and resets the value of what is returned, so that is
    the line which may be empty, and not the list. `label` and whatever else a WebUI passes are not shown.
    """
    from gradio.context import Context

    built = panel(view, control, elem_id=elem_id or "flux_speedup_changes", value=value or "", with_list=True)
    # An option's page has no load event of its own: the Blocks around it, whichever it is, has one.
    Context.root_block.load(lambda: refreshed(view), None, list(built.outputs), **EVENT)
    return built.result


def panel(view: Seen, control: Control, *, elem_id: str, value: str = "", with_list: bool) -> Panel:
    """Build the components; `with_list` adds the line of statistics and a line for every item."""
    import gradio as gr

    with gr.Column(variant="panel", elem_classes=["fsu-panel"], min_width=280):
        items = gr.HTML(list_html(view, with_list), elem_id=f"{elem_id}_list")
        shown = gr.State(ticks(view)[1])
        keep = gr.CheckboxGroup(
            choices=ticks(view)[0],
            value=ticks(view)[1],
            label="In force (untick what you want back as it was, then Apply)",
            interactive=True,
            visible=bool(ticks(view)[1]),
            elem_id=f"{elem_id}_keep",
            elem_classes=["fsu-keep"],
        )

        def button(name: str, label: str, **more: Any) -> Any:
            return ours(gr.Button(label, elem_id=f"{elem_id}_{name}", size="sm", min_width=110, **more))

        with gr.Row():
            apply_button = button("apply", "Apply", variant="primary")
            back = button("put_back", "Put everything back", variant="stop")
            again = button("again", "Take that back", visible=False)
        with gr.Column(visible=False) as sure:
            gr.HTML(f'<div class="fsu">{SURE}</div>')
            with gr.Row():
                yes = button("put_back_yes", "Yes, put everything back", variant="stop")
                no = button("put_back_no", "No, leave it as it is")
        result = gr.HTML(value, elem_id=elem_id, elem_classes=["fsu-line"])
    outputs = (items, keep, shown)

    def after(said: str, *, put_back: bool) -> list[Any]:
        return [said, gr.update(visible=False), gr.update(visible=put_back), *refreshed(view, with_list)]

    def pressed_apply(headers: Headers, ticked: list[str], offered: list[str]) -> list[Any]:
        return after(apply(view, control.by(headers), offered, ticked), put_back=False)

    def pressed_back(headers: Headers) -> list[Any]:
        said = put_everything_back(view, control.by(headers))
        return after(said, put_back=not view.status().enabled)

    def pressed_again(headers: Headers) -> list[Any]:
        said = apply_again(view, control.by(headers))
        return after(said, put_back=not view.status().enabled)

    changed = [result, sure, again, *outputs]
    back.click(lambda: ["", gr.update(visible=True)], None, [result, sure], **EVENT)
    no.click(lambda: ["", gr.update(visible=False)], None, [result, sure], **EVENT)
    return Panel(
        outputs,
        (keep, shown),
        result,
        (
            apply_button.click(with_headers(pressed_apply), [keep, shown], changed, **EVENT),
            yes.click(with_headers(pressed_back), None, changed, **EVENT),
            again.click(with_headers(pressed_again), None, changed, **EVENT),
        ),
    )


def refreshed(view: Seen, with_list: bool = True) -> list[Any]:
    """New values for `Panel.outputs`."""
    import gradio as gr

    choices, items = ticks(view)
    update = gr.update(choices=choices, value=items, visible=bool(items))
    return [list_html(view, with_list), update, items]


def followed(view: Seen, ticked: Sequence[str], offered: Sequence[str]) -> list[Any]:
    """As `refreshed` without the list, but what the user unticked and did not apply yet stays unticked."""
    import gradio as gr

    choices, items = ticks(view)
    if list(offered) == items:
        return [list_html(view, False), gr.update(), items]
    value = [item for item in items if item in ticked or item not in offered]
    return [list_html(view, False), gr.update(choices=choices, value=value, visible=bool(items)), items]


def list_html(view: Seen, with_list: bool) -> str:
    """The panel's heading; with the list also the line of statistics and a line for every item."""
    status = view.status()
    body = (
        '<div class="fsu"><div class="fsu-title">What is changed on this machine right now</div>'
        f'<div class="fsu-soft">{cards.counts_line(status.outcomes)}</div>'
    )
    if with_list:
        body = f"{STYLE}{body}{cards.statistics_line(view.totals())}{cards.outcome_rows(status.outcomes)}"
    return body + "</div>"


def ticks(view: Seen) -> tuple[list[tuple[str, str]], list[str]]:
    """(title, item) of everything applied, and the items, all of them ticked."""
    applied = [outcome for outcome in view.status().outcomes if outcome.state is State.APPLIED]
    return [(printable(o.title), o.item) for o in applied], [o.item for o in applied]


def apply(view: Seen, acts: Acts, offered: Sequence[str], ticked: Sequence[str]) -> str:
    """Put back what was offered and is no longer ticked; what was applied since stays. HTML of the result."""
    unticked = set(offered) - set(ticked)
    if not unticked:
        return cards.result("Nothing was unticked: everything stays as it is.")
    wanted = [o.item for o in view.status().outcomes if o.state in _LIVE and o.item not in unticked]
    return _after(view, lambda: acts.keep_only(wanted), unticked)


def put_everything_back(view: Seen, acts: Acts) -> str:
    """Put back whatever is applied. HTML of the result."""
    live = {o.item for o in view.status().outcomes if o.state in _LIVE}
    if not live:
        return cards.result("There is nothing to put back.")
    return _after(view, acts.put_everything_back, live)


def apply_again(view: Seen, acts: Acts) -> str:
    """Make the changes again that were put back. HTML of the result."""
    return actions.attempt(acts.apply_again, IN_FORCE_AGAIN)


def _after(view: Seen, act: Callable[[], None], items: set[str]) -> str:
    failed = actions.attempt(act)
    if failed:
        return failed
    outcomes = [o for o in view.status().outcomes if o.item in items]
    stayed = [o for o in outcomes if o.state is State.APPLIED]
    if stayed:
        return cards.result(f"Still in force: {_titles(stayed)}. Restart the WebUI.", good=False)
    return cards.result(f"Put back: {_titles(outcomes)}. {AGAIN}")


def _titles(outcomes: Sequence[Outcome]) -> str:
    if len(outcomes) > NAMED:
        return f"{len(outcomes)} changes"
    return ", ".join(safe(o.title) for o in outcomes)
