"""The web app of each piece of the page is made when somebody asks for it, not whenever a piece is built.

gradio 4 makes a FastAPI app with some fifty routes twice for every `Blocks`: when it is built, and when its
queue is set up. A WebUI builds sixteen of them for one page and launches one, for which `launch` makes the app
anew; headless, it launches none.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from ...patching.change import Call, Change, Declined, Undo, Value, apply

BLOCKS, ROUTES = "gradio.blocks", "gradio.routes"


class LazyApp:
    """Stands where `Blocks.app` would be: the real app as soon as anything of it is used. Thread safe."""

    def __init__(self, blocks: Any) -> None:
        vars(self)["_lazy"] = {"blocks": blocks, "lock": threading.RLock(), "app": None}

    def _real(self) -> Any:
        lazy = vars(self)["_lazy"]
        with lazy["lock"]:
            if lazy["app"] is None:
                blocks = lazy.pop("blocks")
                lazy["app"] = sys.modules[ROUTES].App.create_app(blocks)
                if vars(blocks).get("app") is self:
                    blocks.app = lazy["app"]
            return lazy["app"]

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        # For isinstance, which must not make it.
        return sys.modules[ROUTES].App

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real(), name, value)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._real()(scope, receive, send)


class LazyApps:
    """What `gradio.blocks` finds under `routes.App`."""

    @staticmethod
    def create_app(blocks: Any, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            return sys.modules[ROUTES].App.create_app(blocks, *args, **kwargs)
        return LazyApp(blocks)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules[ROUTES].App, name)


class LazyRoutes:
    """Stands in for the module `gradio.routes` in `gradio.blocks`: `App` is ours, all else is the module's."""

    App = LazyApps()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules[ROUTES], name)


def changes() -> list[Change]:
    """The one name of the one module; what was left unmade stays good after the undo."""
    return [Call(_apply, module=BLOCKS)]


def _apply() -> Undo:
    queue = getattr(sys.modules.get("gradio.queueing"), "Queue", None)
    if hasattr(queue, "set_access_token"):
        raise Declined("in this gradio an app and its queue depend on each other")
    return apply(Value(BLOCKS, "routes", LazyRoutes()))
