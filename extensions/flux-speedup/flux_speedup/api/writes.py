"""The routes that change something: each through `control`, as the tab's buttons."""

# No annotations as text here: FastAPI cannot resolve those of functions made inside a function.
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, Field

from ..configuration.sources import OPTION_PREFIX
from ..control.acts import Acts
from ..control.control import Control
from ..control.rules import Rules
from ..facts.plain import plain, text
from ..hosts.common.inside import Forbidden, Refused
from ..stats.machine import Measuring
from ..ui.settings import OPTIONS
from ..weights.packed.progress import PackedNow
from .access import let_through
from .shapes import shape

T = TypeVar("T")


class MeasureBody(BaseModel, extra="forbid"):
    """Begin to measure this machine, or cancel what is under way."""

    cancel: bool = False


class PackBody(BaseModel, extra="forbid"):
    """Stop making packed files, or go on where it was stopped."""

    stop: bool = False


class DropBody(BaseModel, extra="forbid"):
    """The model to forget, by its key; null takes every model off the device. One of both must be said."""

    key: str | None = Field(..., description="as in GET models")


class TracesBody(BaseModel, extra="forbid"):
    """Take ours out of the WebUI's settings, and with `statistics` delete our folder in its cache as well."""

    statistics: bool = False


class DoneModel(BaseModel):
    """What was done, as a sentence."""

    done: str


class ProblemModel(BaseModel):
    """Why it was not done."""

    detail: str


Refusals = dict[int | str, dict[str, Any]]


def _problems(said: Mapping[int, str]) -> Refusals:
    return {status: {"model": ProblemModel, "description": what} for status, what in said.items()}


NOT_NOW = _problems(
    {
        403: "it may not be asked for from there, or from outside at all",
        409: "it cannot be done now",
        415: "the body is no JSON",
    }
)
NO_SUCH_OPTION = {**NOT_NOW, **_problems({400: "no such option, or not one of its values"})}


def add_routes(router: APIRouter, control: Control) -> None:
    """POST measure, pack, drop, remove_traces and settings."""

    def post(
        path: str, summary: str, model: type[BaseModel] = DoneModel, refusals: Refusals = NOT_NOW
    ) -> Callable[[Callable[..., Any]], object]:
        json = [Depends(let_through(Rules.must_be_json))]
        return router.post(path, response_model=model, responses=refusals, dependencies=json, summary=summary)

    @post("/measure", "Measure this machine, in the background", shape(Measuring))
    def measure(body: MeasureBody, request: Request) -> Any:
        acts = control.by(request.headers)
        return plain(_done(acts.cancel_measuring if body.cancel else acts.measure))

    @post("/pack", "Go on making packed files, or stop", shape(PackedNow))
    def pack(body: PackBody, request: Request) -> Any:
        acts = control.by(request.headers)
        return plain(_done(lambda: acts.pack(not body.stop)))

    @post("/drop", "Forget a kept model, or free VRAM")
    def drop(body: DropBody, request: Request) -> Any:
        acts = control.by(request.headers)
        return {"done": text(_done(lambda: acts.drop(body.key)))}

    @post("/remove_traces", "Before the extension is removed: nothing of it stays in the WebUI's settings")
    def remove_traces(body: TracesBody, request: Request) -> Any:
        acts = control.by(request.headers)
        return {"done": text(_done(lambda: acts.remove_traces(folder=body.statistics)))}

    @post("/settings", "Set options of the section Flux Speedup", refusals=NO_SUCH_OPTION)
    def settings(body: dict[str, str], request: Request) -> Any:
        acts = control.by(request.headers)
        chosen = {OPTION_PREFIX + key.removeprefix(OPTION_PREFIX): value for key, value in body.items()}
        _done(lambda: _set(acts, chosen))
        named = ", ".join(f"{key} = {value}" for key, value in chosen.items())
        return {"done": text(f"{named}; in force after Reload UI" if named else "nothing was asked for")}


def _set(acts: Acts, chosen: Mapping[str, str]) -> None:
    acts.may()
    problem = _problem(chosen)
    if problem is not None:
        raise HTTPException(status_code=400, detail=text(problem))
    acts.set_options(chosen)


def _done(act: Callable[[], T]) -> T:
    """What the act answers, its refusal as HTTP says it."""
    try:
        return act()
    except Forbidden as why:
        raise HTTPException(status_code=why.status, detail=text(why)) from why
    except Refused as why:
        raise HTTPException(status_code=409, detail=text(why)) from why


def _problem(chosen: Mapping[str, str]) -> str | None:
    """What of it no option takes."""
    choices = {option.key: option.choices for option in OPTIONS}
    for key, value in chosen.items():
        if key not in choices:
            return f"{key} is no option of Flux Speedup; there are {', '.join(choices)}"
        if value not in choices[key]:
            return f"{key} = {value!r} is not one of {', '.join(choices[key])}"
    return None
