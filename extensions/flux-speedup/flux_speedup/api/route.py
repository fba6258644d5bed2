"""A route whose refusals can always be sent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from ..facts.plain import plain


class PlainRoute(APIRoute):
    """FastAPI's own refusal repeats what was sent, and a NaN or half a character in it cannot be sent back."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        original = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await original(request)
            except RequestValidationError as error:
                told = [
                    {key: plain(problem[key]) for key in ("loc", "msg", "type")} for problem in error.errors()
                ]
                raise HTTPException(status_code=422, detail=told) from error

        return handle
