"""Asking a web app without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import httpx

Answer = TypeVar("Answer")


def ask(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    """The answer of an ASGI app; `options` as `httpx.Request` takes them."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return answered(answer())


def answered(asked: Coroutine[Any, Any, Answer]) -> Answer:
    """What comes of it. (`asyncio.run` would drop the loop that gradio leaves in this thread, which warns then.)"""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(asked)
    finally:
        loop.close()
