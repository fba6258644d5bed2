"""Every text node of ours that a page can hold, collected from the parts themselves."""

from __future__ import annotations

import html.parser
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from flux_speedup.configuration.config import SETTINGS, Config
from flux_speedup.configuration.kinds import Switch
from flux_speedup.facts.seen import NO_GPU, SIMULATED
from flux_speedup.facts.view import LeftOut, MemoryUse
from flux_speedup.features import moments as items
from flux_speedup.features import scripts as items_scripts
from flux_speedup.hosts.a1111.webui import A1111
from flux_speedup.hosts.common.webui import WebUI
from flux_speedup.hosts.forge.webui import Forge
from flux_speedup.hosts.neo.webui import Neo
from flux_speedup.hosts.reforge.webui import ReForge
from flux_speedup.measuring.steps import steps
from flux_speedup.memory import GIB, Card, MemoryPlan, TierRules, plan
from flux_speedup.patching.change import Call, Change
from flux_speedup.patching.table import Outcome, State
from flux_speedup.stats.machine import Measuring, Savings
from flux_speedup.ui import actions, assets, changes, hints, machine, parts, section, settings, tab, wiring
from flux_speedup.ui.packed import STATES
from flux_speedup.weights.packed.progress import FileProgress
from tests.fake_view import FakeView


class Nodes(html.parser.HTMLParser):
    """The text nodes of a piece of HTML, as the WebUI's script sees them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside: list[str] = []
        self._text = ""
        self.feed(page)
        self.close()
        self._end()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end()
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._end()
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._inside):
            self._text += data

    def _end(self) -> None:
        if self._text.strip():
            self.found.append(self._text)
        self._text = ""


def of_page(page: gr.Blocks) -> Iterator[str]:
    """What the components hold when they are sent."""
    for component in page.get_config_file()["components"]:
        kind, props = component["type"], component["props"]
        if kind == "html":
            yield from Nodes(str(props.get("value") or "")).found
        elif "fsu-hidden" in (props.get("elem_classes") or []):
            continue
        elif kind == "button":
            yield str(props["value"])
        elif kind == "checkboxgroup" or (kind == "textbox" and props.get("label")):
            yield str(props["label"])


def of_tab(view: FakeView, chosen: str | None = None) -> Iterator[str]:
    """All parts of the tab and its lines."""
    for value in parts.values(view, chosen).values():
        yield from Nodes(value).found
    hint = hints.line("")
    for value in (parts.pulse(view), machine.progress(view.measuring()), section.body(view), hint):
        yield from Nodes(value).found
    for with_list in (True, False):
        yield from Nodes(changes.list_html(view, with_list)).found


def of_actions() -> Iterator[str]:
    """What the buttons answer: done, refused, failed."""
    acts: tuple[Callable[[FakeView], str], ...] = (
        lambda view: actions.attempt(lambda: view.drop(None)),
        lambda view: actions.drop(view, view, "nobody"),
        lambda view: actions.attempt(view.measure),
        lambda view: actions.attempt(view.forget_statistics, wiring.FORGOTTEN),
        lambda view: changes.put_everything_back(view, view),
        lambda view: changes.apply_again(view, view),
        lambda view: changes.apply(view, view, [], []),
        lambda view: changes.apply(view, view, [one.item for one in view.outcomes[:1]], []),
        lambda view: actions.attempt(view.disable_left_out),
    )
    for make in (FakeView, refusing, failing, unchanged):
        for act in acts:
            yield from Nodes(act(make())).found
    yield from re.findall(r'said\("(.+?)", ""\)', assets.COPY)


def refusing() -> FakeView:
    view = FakeView()
    view.refused = "an image is being made"
    return view


def failing() -> FakeView:
    view = FakeView()
    view.error = OSError("no space left")
    return view


def unchanged() -> FakeView:
    view = FakeView()
    view.outcomes = ()
    return view


class Stubborn(FakeView):
    """What is put back stays applied."""

    def _put_back(self, *_: Any) -> Any:
        return self.status()


def empty() -> FakeView:
    view = unchanged()
    view.kept, view.made, view.built, view.begun, view.weights, view.lines = [], [], [], [], [], []
    view.measured, view.used, view.pruned = None, MemoryUse(), LeftOut()
    view.saved = Savings(0.0, None, False, "nothing")
    view.refresh = 5.0
    return view


def views() -> Iterator[FakeView]:
    """Views that show every state there is."""
    yield FakeView()
    yield empty()
    yield FakeView(simulated=True)
    view = FakeView()
    view.outcomes = tuple(Outcome("x", "x", state, "x") for state in State)
    view.measured = None
    view.kept = [replace(event, source="") for event in view.kept]
    view.made[0] = replace(view.made[0], parts={"adetailer": 1.0}, passes=())
    view.built = [replace(model, file_bytes=0, device_bytes=0, ram_bytes=0) for model in view.built]
    yield view
    for state in ("running", "done", "cancelled", "failed"):
        view = FakeView()
        view.measurement = Measuring(state)
        view.measured = replace(view.measured, disk=None)  # type: ignore[type-var]
        yield view
    view = FakeView()
    waits = ("until no image is made", "for its turn", "another process packs it")
    rows = [FileProgress("x", 2, 1, "waiting", why) for why in waits]
    rows += [FileProgress("x", 2, 1, state) for state in STATES if state != "waiting"]
    view.made_packed = replace(view.made_packed, stopped=True, files=tuple(rows))
    yield view
    view = FakeView()
    view.pruned = LeftOut("none", why_not="frozen", disabled=("x",))
    yield view

    view = FakeView()
    view.saved = Savings(-1.0, -1.0, False, "nothing")
    yield view

    class Broken(FakeView):
        def models(self) -> Any:
            raise OSError("gone")

    yield Broken()


def of_settings() -> Iterator[str]:
    """Labels, choices and the notes that the WebUI puts in brackets behind a label."""
    for option in settings.OPTIONS:
        yield option.label
        yield from option.choices
        yield f"({option.info})"


def rendered() -> Iterator[str]:
    """All of it, with the white space that a node has."""
    yield from of_page(tab.build(FakeView(), FakeView()))
    with gr.Blocks(analytics_enabled=False) as page:
        changes.build(FakeView(), FakeView())
        section.left_out(FakeView(), FakeView())
        section.traces(FakeView())
    yield from of_page(page)
    for view in views():
        yield from of_tab(view)
        yield from of_tab(view, view.made[2].key if len(view.made) > 2 else None)
    yield from of_actions()
    yield from Nodes(changes.put_everything_back(Stubborn(), Stubborn())).found
    yield from of_settings()


class Everything(WebUI):
    """A host that has a change for everything; none is ever made."""

    has_tiers = True
    runs_flux = True

    def __getattribute__(self, name: str) -> Any:
        if name.endswith(("_changes", "_at_build")) and name != "memory_changes":
            return lambda *_: [Call(_nothing)]
        return super().__getattribute__(name)

    def api_is_on(self) -> bool:
        return True

    def streams_unavailable(self) -> str | None:
        return None

    def memory_changes(self, decided: MemoryPlan) -> list[Any]:
        return Forge(types.ModuleType("backend.memory_management")).memory_changes(decided)


def _nothing() -> Callable[[], None]:
    raise AssertionError("nothing is changed here")


class Named:
    """Takes what a patch table is given and keeps the titles and reasons."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, key: str, title: str, why: str, changes: list[Change]) -> None:
        self.texts += [title, why]

    def note(self, key: str, title: str, state: State, why: str) -> None:
        self.texts += [title, why]

    def extend(self, key: str, changes: list[Change]) -> None:
        pass

    def put_back(self, keys: Any = None) -> None:
        pass

    def applied(self) -> frozenset[str]:
        return frozenset()


def item_texts() -> list[str]:
    """Titles and reasons of every item, on, off and not available, on a large card and on none."""
    table: Any = Named()
    switches = {key: False for key, each in SETTINGS.items() if isinstance(each.kind, Switch)}
    everything = {key: True for key in switches}
    without = (Config(weights=False), Config(statistics=False), Config(hash_wait="never"))
    configs = (Config(), Config(**everything), Config(**switches), Config(left_out=()), *without)
    cards = (Card("a card", True, 80 * GIB), Card("the CPU", False, None), Card("?", None, None))
    manager = types.ModuleType("memory_management")
    hosts = (Everything(), WebUI(), A1111(), Neo(manager), ReForge(manager))
    tracking: Any = None
    for config in configs:
        for card in (*cards, Card("a chip", True, 80 * GIB, shares_ram=True), Card("?", True, None)):
            for host in hosts:
                host.card = lambda card=card: card  # type: ignore[misc]
                decided = items.apply(table, host, card, config, argv=[], environ={})
                table.texts.append(decided.why)
                items.apply_with_scripts(table, host, decided, config, lambda _: None, tracking)
                items_scripts.apply_local_models(table, lambda: tracking, config)
    opened: Any = None
    cuda = types.SimpleNamespace(type="cuda")
    table.texts += [name for name, _ in steps(Path("x.safetensors"), None, cuda, opened)]
    table.texts += [plan(Card("", True, GIB), TierRules(mode="off")).why, SIMULATED, NO_GPU]
    return [text for text in table.texts if text]


def told_by(value: Any) -> Iterator[str]:
    """Every text inside what a view answers: names, reasons, lines of the log."""
    if isinstance(value, str) and not isinstance(value, State):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from told_by(key)
            yield from told_by(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from told_by(one)
    elif is_dataclass(value):
        for field in fields(value):
            yield from told_by(getattr(value, field.name))
