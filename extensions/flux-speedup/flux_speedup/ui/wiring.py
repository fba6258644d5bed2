"""The events of the tab: what happens when the page is loaded, a button pressed, a moment gone by."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..control.acts import Acts
from . import actions, assets, changes, export, machine, parts
from .changes import EVENT, Headers
from .gradios import with_headers, with_script

if TYPE_CHECKING:
    import gradio as gr

    from .tab import Page

DROP, REQUEST, PACKING = "drop", "request", "packing"
# What a measurement changes while it runs.
MEASURED = ("machine", "rates")
FORGOTTEN = "The statistics are deleted; measurements of this machine stay."


def connect(page: Page, blocks: gr.Blocks) -> None:
    """Connect every component of a built tab."""
    import gradio as gr

    # What this browser tab was sent, by part; and the request its user wants to see.
    sent, chosen = gr.State({}), gr.State(None)
    _follow(page, blocks, sent, chosen)
    _measure(page, sent, chosen)
    _models(page, sent, chosen)
    _statistics(page, sent, chosen)
    blocks.load(None, None, None, **with_script(assets.LIVE), **EVENT)


def _follow(page: Page, blocks: gr.Blocks, sent: Any, chosen: Any) -> None:
    assert page.changes is not None
    view, panel = page.view, page.changes
    outputs = [*_parts(page), page.texts["pulse"], sent]

    def live(
        chosen_key: str | None, before: dict[str, int], ticked: list[str], offered: list[str]
    ) -> list[Any]:
        return [*_all(page, chosen_key, before), *changes.followed(view, ticked, offered), *_measuring(page)]

    def refreshed(chosen_key: str | None, ticked: list[str], offered: list[str]) -> list[Any]:
        return live(chosen_key, {}, ticked, offered)

    def after_change(chosen_key: str | None) -> list[Any]:
        return _all(page, chosen_key, {})

    more = [*outputs, *panel.outputs, *_measuring_outputs(page)]
    # Followed from the first answer on: somebody may have unticked something before it comes.
    blocks.load(refreshed, [chosen, *panel.ticked], more, **EVENT)
    page.buttons["refresh"].click(refreshed, [chosen, *panel.ticked], more, **EVENT)
    page.buttons["live"].click(live, [chosen, sent, *panel.ticked], more, **EVENT)
    for pressed in panel.pressed:
        pressed.then(after_change, [chosen], outputs, **EVENT)


def _measure(page: Page, sent: Any, chosen: Any) -> None:
    view = page.view
    shown = [page.parts[name] for name in MEASURED]
    outputs = [*shown, page.texts["pulse"], sent, *_measuring_outputs(page)]

    def progress(chosen_key: str | None, before: dict[str, int]) -> list[Any]:
        # The rest is not touched: the page may refresh itself rarely, or never.
        now, marks = _changed(parts.values(view, chosen_key, MEASURED), before)
        return [*now, parts.pulse(view), marks, *_measuring(page)]

    def pressed(act: Callable[[Acts], object]) -> Callable[..., list[Any]]:
        def handler(headers: Headers, chosen_key: str | None, before: dict[str, int]) -> list[Any]:
            said = actions.attempt(lambda: act(page.control.by(headers)))
            return [*progress(chosen_key, before), said]

        return with_headers(handler)

    page.buttons["progress"].click(progress, [chosen, sent], outputs, **EVENT)
    for name, act in (
        ("measure", lambda acts: acts.measure()),
        ("cancel", lambda acts: acts.cancel_measuring()),
    ):
        page.buttons[name].click(
            pressed(act), [chosen, sent], [*outputs, page.texts["measure_said"]], **EVENT
        )


def _models(page: Page, sent: Any, chosen: Any) -> None:
    view = page.view
    outputs = [*_parts(page), page.texts["pulse"], sent, page.texts["models_said"]]
    inputs = [page.texts["what"], chosen, sent]

    def free(headers: Headers, chosen_key: str | None, before: dict[str, int]) -> list[Any]:
        said = actions.attempt(lambda: page.control.by(headers).drop(None))
        return [*_all(page, chosen_key, before), said]

    def pressed(headers: Headers, what: str, chosen_key: str | None, before: dict[str, int]) -> list[Any]:
        said = stopped = ""
        kind, _, which = str(what).partition(":")
        if kind == DROP:
            said = actions.drop(view, page.control.by(headers), which)
        elif kind == REQUEST:
            keys = [request.key for request in view.requests()]
            if which in keys:
                # Whoever chooses the newest wants to see the newest from then on.
                chosen_key = None if which == keys[0] else which
        elif kind == PACKING:
            stopped = actions.attempt(lambda: page.control.by(headers).pack(which == "on"))
        return [*_all(page, chosen_key, before), said, stopped, chosen_key]

    page.buttons["free"].click(with_headers(free), [chosen, sent], outputs, **EVENT)
    page.buttons["pressed"].click(
        with_headers(pressed),
        inputs,
        [*outputs, page.texts["packed_said"], chosen],
        **with_script(assets.pressed(len(inputs))),
        **EVENT,
    )


def _statistics(page: Page, sent: Any, chosen: Any) -> None:
    import gradio as gr

    view, said, sure = page.view, page.texts["statistics_said"], page.groups["sure"]
    files = {
        "json": (lambda: export.as_json(view, time.time()), "flux-speedup.json", "application/json"),
        "csv": (lambda: export.as_csv(view), "flux-speedup.csv", "text/csv"),
    }
    for name, (make, file_name, mime) in files.items():
        text = page.texts[f"{name}_text"]
        pressed = page.buttons[name].click(_made(make), None, [text, said], **EVENT)
        pressed.then(None, [text], None, **with_script(assets.save(file_name, mime)), **EVENT)

    report = page.texts["report"]

    def made_report() -> list[Any]:
        text, failed = _made(view.bug_report)()
        return [gr.update(value=text, visible=bool(text)), failed]

    copied = page.buttons["copy"].click(made_report, None, [report, said], **EVENT)
    copied.then(None, [report, said], [said], **with_script(assets.COPY), **EVENT)

    outputs = [*_parts(page), page.texts["pulse"], sent, said, sure]

    def forget(headers: Headers) -> list[Any]:
        result = actions.attempt(page.control.by(headers).forget_statistics, FORGOTTEN)
        return [*_all(page, None, {}), result, gr.update(visible=False)]

    page.buttons["forget"].click(lambda: ["", gr.update(visible=True)], None, [said, sure], **EVENT)
    page.buttons["forget_no"].click(lambda: ["", gr.update(visible=False)], None, [said, sure], **EVENT)
    page.buttons["forget_yes"].click(with_headers(forget), None, outputs, **EVENT)


def _made(make: Callable[[], str]) -> Callable[[], list[str]]:
    """A handler that answers with what was made and an empty line, or with nothing and what went wrong."""

    def handler() -> list[str]:
        made: list[str] = []
        failed = actions.attempt(lambda: made.append(make()))
        return ["".join(made), failed]

    return handler


def _all(page: Page, chosen_key: str | None, before: Mapping[str, int]) -> list[Any]:
    """Every part that changed, the pulse, and what this browser tab has then."""
    now, marks = _changed(parts.values(page.view, chosen_key), before)
    return [*now, parts.pulse(page.view), marks]


def _changed(values: Mapping[str, str], before: Mapping[str, int]) -> tuple[list[Any], dict[str, int]]:
    """An update for every value, and the marks to compare the next ones with.

    What is the same as before is not sent, and not drawn again.
    """
    import gradio as gr

    marks = {name: hash(value) for name, value in values.items()}
    sent = [
        gr.update() if before.get(name) == marks[name] else gr.update(value=value)
        for name, value in values.items()
    ]
    return sent, {**before, **marks}


def _measuring_outputs(page: Page) -> list[Any]:
    return [page.texts["measuring"], page.buttons["cancel"]]


def _measuring(page: Page) -> list[Any]:
    import gradio as gr

    measuring = page.view.measuring()
    return [machine.progress(measuring), gr.update(visible=measuring.state == machine.RUNNING)]


def _parts(page: Page) -> list[Any]:
    return [page.parts[name] for name in parts.NAMES]
