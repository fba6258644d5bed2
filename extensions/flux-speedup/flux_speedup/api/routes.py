"""The three routes, and how they get onto the WebUI's app."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI, Query

from ..view import View
from .access import Access
from .models import (
    ConfigRowModel,
    Json,
    StatsModel,
    StatusModel,
    config_json,
    stats_json,
    status_json,
)

PREFIX = "/flux-speedup/v1"
MAX_LIMIT = 1000
MAX_OFFSET = 1_000_000_000


def register(app: FastAPI, view: View, access: Access) -> None:
    """Add the routes to `app`, also to one that serves already; a second call replaces the first's routes."""
    router = APIRouter(
        prefix=PREFIX,
        tags=["Flux Speedup"],
        dependencies=[Depends(access.dependency())],
    )
    _add_routes(router, view)
    app.router.routes[:] = [
        route for route in app.router.routes if not getattr(route, "path", "").startswith(f"{PREFIX}/")
    ]
    app.include_router(router)
    # Else a description that was asked for before would leave these routes out.
    app.openapi_schema = None


def _add_routes(router: APIRouter, view: View) -> None:
    @router.get("/status", response_model=StatusModel, summary="What is applied, skipped or failed, and why")
    def status() -> Json:
        return status_json(view.status())

    @router.get("/stats", response_model=StatsModel, summary="Loads, moves and unloads with their times")
    def stats(
        since: float | None = Query(None, ge=0, description="seconds since the epoch, inclusive"),
        kind: str | None = Query(None, description="checkpoint, move, unload or startup"),
        limit: int = Query(100, ge=1, le=MAX_LIMIT),
        offset: int = Query(0, ge=0, le=MAX_OFFSET),
    ) -> Json:
        # One more than asked for tells whether there is a next page.
        found = view.events(since=since, kind=kind, limit=limit + 1, offset=offset)
        following = offset + limit if len(found) > limit else None
        return stats_json(view.status().simulated, found[:limit], view.totals(), following)

    @router.get("/config", response_model=list[ConfigRowModel], summary="The configuration in force")
    def config() -> list[Json]:
        return config_json(view.config())
