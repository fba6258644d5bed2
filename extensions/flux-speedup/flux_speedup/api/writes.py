"""The routes that change something: refused where the WebUI lets nobody change it from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from ..facts.view import Refused, View
from ..ui.settings import OPTIONS
from .figures import MeasuringModel, measuring_json
from .models import Json, text

PREFIX = "flux_speedup_"


@dataclass(frozen=True)
class Writes:
    """`refused`: why nothing may be changed from outside, or None. `set_options`: raises Refused."""

    refused: Callable[[], str | None]
    set_options: Callable[[Mapping[str, str]], None]


class MeasureBody(BaseModel):
    """Begin to measure this machine, or cancel what is under way."""

    cancel: bool = False


class DropBody(BaseModel):
    """The model to forget, by its key; null takes every model off the device."""

    key: str | None = Field(None, description="as in GET models")


class DoneModel(BaseModel):
    """What was done, as a sentence."""

    done: str


class ProblemModel(BaseModel):
    """Why it was not done."""

    detail: str


FORBIDDEN: dict[int | str, dict[str, Any]] = {
    403: {"model": ProblemModel, "description": "the WebUI lets nobody change it from outside"}
}
NOT_NOW: dict[int | str, dict[str, Any]] = {
    **FORBIDDEN,
    409: {"model": ProblemModel, "description": "it cannot be done now"},
}
NO_SUCH_OPTION: dict[int | str, dict[str, Any]] = {
    **FORBIDDEN,
    400: {"model": ProblemModel, "description": "no such option, or not one of its values"},
}


def add_routes(router: APIRouter, view: View, writes: Writes) -> None:
    """POST measure, drop and settings. Every body is JSON: a form of another site cannot send it."""

    def allowed() -> None:
        why = writes.refused()
        if why is not None:
            raise HTTPException(status_code=403, detail=text(why))

    @router.post(
        "/measure",
        response_model=MeasuringModel,
        responses=NOT_NOW,
        summary="Measure this machine, in the background",
    )
    def measure(body: MeasureBody) -> Json:
        allowed()
        try:
            return measuring_json(view.cancel_measuring() if body.cancel else view.measure())
        except Refused as why:
            raise HTTPException(status_code=409, detail=text(why)) from why

    @router.post(
        "/drop", response_model=DoneModel, responses=NOT_NOW, summary="Forget a kept model, or free VRAM"
    )
    def drop(body: DropBody) -> Json:
        allowed()
        try:
            return {"done": text(view.drop(body.key))}
        except Refused as why:
            raise HTTPException(status_code=409, detail=text(why)) from why

    @router.post(
        "/settings",
        response_model=DoneModel,
        responses=NO_SUCH_OPTION,
        summary="Set options of the section Flux Speedup",
    )
    def settings(body: dict[str, str]) -> Json:
        allowed()
        chosen = {PREFIX + key.removeprefix(PREFIX): value for key, value in body.items()}
        problem = _problem(chosen)
        if problem is not None:
            raise HTTPException(status_code=400, detail=text(problem))
        try:
            writes.set_options(chosen)
        except Refused as why:
            raise HTTPException(status_code=403, detail=text(why)) from why
        named = ", ".join(f"{key} = {value}" for key, value in chosen.items())
        return {"done": text(f"{named}; in force after Reload UI" if named else "nothing was asked for")}


def _problem(chosen: Mapping[str, str]) -> str | None:
    """What of it no option takes."""
    choices = {option.key: option.choices for option in OPTIONS}
    for key, value in chosen.items():
        if key not in choices:
            return f"{key} is no option of Flux Speedup; there are {', '.join(choices)}"
        if value not in choices[key]:
            return f"{key} = {value!r} is not one of {', '.join(choices[key])}"
    return None
