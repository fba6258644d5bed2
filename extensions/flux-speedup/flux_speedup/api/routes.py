"""The routes that read, and how all routes get onto the WebUI's app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi.responses import PlainTextResponse

from ..control.control import Control
from ..facts.view import Checkpoint, ConfigRow, Status
from ..hosts.common.inside import Model
from ..local_models.report import LocalWeight
from ..stats import events as asked
from ..weights.packed.progress import PackedNow
from . import writes as writing
from .access import Access, let_through
from .metrics import CONTENT_TYPE, metrics
from .route import PlainRoute
from .shapes import MachineNow, Requests, Stats, answer, shape

if TYPE_CHECKING:
    from ..facts.seen import Seen

PREFIX = "/flux-speedup/v1"
MAX_LIMIT = 1000
MAX_OFFSET = 1_000_000_000


def register(app: FastAPI, view: Seen, access: Access, control: Control) -> None:
    """Add the routes to `app`, also to one that serves already; a second call replaces the first's routes."""
    router = APIRouter(
        prefix=PREFIX,
        tags=["Flux Speedup"],
        route_class=PlainRoute,
        dependencies=[Depends(let_through(control.may_read)), Depends(access.dependency())],
    )
    _add_routes(router, view)
    writing.add_routes(router, control)
    app.router.routes[:] = [
        route for route in app.router.routes if not getattr(route, "path", "").startswith(f"{PREFIX}/")
    ]
    app.include_router(router)
    # Else a description that was asked for before would leave these routes out.
    app.openapi_schema = None


def _add_routes(router: APIRouter, view: Seen) -> None:
    @router.get(
        "/status", response_model=shape(Status), summary="What is applied, skipped or failed, and why"
    )
    def status() -> Any:
        return answer(view.status())

    @router.get("/stats", response_model=shape(Stats), summary="Loads, moves and unloads with their times")
    def stats(
        since: float | None = Query(None, ge=0, description="seconds since the epoch, inclusive"),
        kind: str | None = Query(None, description="checkpoint, move, unload or startup"),
        model: str | None = Query(None, description="a part of the checkpoint's or component's name"),
        limit: int = Query(100, ge=1, le=MAX_LIMIT),
        offset: int = Query(0, ge=0, le=MAX_OFFSET),
    ) -> Any:
        # One more than asked for tells whether there is a next page.
        found = view.events(asked.Query(kind, since, model, limit + 1, offset))
        following = offset + limit if len(found) > limit else None
        return answer(Stats(view.status().simulated, tuple(found[:limit]), view.totals().by_kind, following))

    @router.get("/config", response_model=list[shape(ConfigRow)], summary="The configuration in force")  # type: ignore[misc]
    def config() -> Any:
        return answer(view.config())

    @router.get("/requests", response_model=shape(Requests), summary="Where the seconds of requests went")
    def requests(limit: int = Query(20, ge=1, le=MAX_LIMIT)) -> Any:
        shown = tuple(view.requests(limit))
        return answer(Requests(view.status().simulated, shown, view.savings(), view.first_image()))

    @router.get("/models", response_model=list[shape(Model)], summary="The model in use and those kept")  # type: ignore[misc]
    def models() -> Any:
        return answer(view.models())

    @router.get(
        "/checkpoints",
        response_model=list[shape(Checkpoint)],  # type: ignore[misc]
        summary="Where each checkpoint is, and the seconds to bring it: for routers",
    )
    def checkpoints() -> Any:
        return answer(view.checkpoints())

    @router.get(
        "/machine", response_model=shape(MachineNow), summary="What this machine can do, and its memory"
    )
    def machine() -> Any:
        return answer(MachineNow(view.machine(), view.measuring(), view.memory()))

    @router.get("/packed", response_model=shape(PackedNow), summary="Packed files: there, made, waiting")
    def packed() -> Any:
        return answer(view.packed())

    @router.get(
        "/local_weights",
        response_model=list[shape(LocalWeight)],  # type: ignore[misc]
        summary="Detectors' and upscalers' weights: found, missing, redirected, downloaded",
    )
    def local_weights() -> Any:
        return answer(view.local_weights())

    @router.get("/metrics", response_class=PlainTextResponse, summary="The same for Prometheus")
    def prometheus() -> PlainTextResponse:
        figures = view.status(), view.totals(), view.newest_here(), view.savings(), view.memory()
        shown = metrics(*figures, view.machine())
        return PlainTextResponse(shown, media_type=CONTENT_TYPE)
