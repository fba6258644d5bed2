"""The WebUI's API, where a request asks for what is left out: refused by name with 422, never quietly different."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ...patching.change import Call, Change, ChangeError, Function, Undo, apply_all
from ...patching.guard import meant
from ...pruning.decision import Decision
from ...pruning.requests import Asked, extras_refusal, refusal, sentence, without_idle
from .options import opts

API = "modules.api.api"
ROUTES = {"text2imgapi": False, "img2imgapi": True}
EXTRAS = ("extras_single_image_api", "extras_batch_images_api")

log = logging.getLogger("flux_speedup")
Current = Callable[[], "Decision | None"]


def changes(current: Current) -> list[Change]:
    """The methods behind the routes, before the API is made; `current` is the decision in force."""
    return [Call(partial(_wrap_all, current), module=API)]


def _wrap_all(current: Current) -> Undo:
    api = getattr(sys.modules[API], "Api", None)
    wrapped = [
        Function(API, f"Api.{name}", make, own_signature=name != "apply_infotext")
        for name, make in (
            *((name, partial(_generation, current, img2img)) for name, img2img in ROUTES.items()),
            *((name, partial(_extras, current)) for name in EXTRAS),
            ("apply_infotext", partial(_infotext, current)),
        )
        if hasattr(api, name)
    ]
    if not wrapped:
        raise ChangeError(f"{API} has none of {', '.join(ROUTES)}; this WebUI keeps its own behaviour")
    return apply_all(wrapped)


def _generation(current: Current, img2img: bool, original: Callable[..., Any]) -> Callable[..., Any]:
    def generate(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        decision = current()
        if decision is not None:
            always_on = getattr(request, "alwayson_scripts", None)
            _refuse(refusal(_asked(request, img2img), decision))
            if always_on:
                request.alwayson_scripts = without_idle(always_on, decision)
        return original(self, request, *args, **kwargs)

    return _as_route(generate, original)


def _extras(current: Current, original: Callable[..., Any]) -> Callable[..., Any]:
    def extras(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        decision = current()
        if decision is not None:
            _refuse(extras_refusal(dict(vars(request)), _available(), decision))
        return original(self, request, *args, **kwargs)

    return _as_route(extras, original)


def _infotext(current: Current, original: Callable[..., Any]) -> Callable[..., Any]:
    """A request's infotext sets fields of its own: looked at again once they are set."""

    def apply_infotext(self: Any, request: Any, tabname: Any, *args: Any, **kwargs: Any) -> Any:
        parameters = original(self, request, tabname, *args, **kwargs)
        decision = current()
        if decision is not None and parameters:
            _refuse(refusal(_asked(request, tabname == "img2img", parameters), decision))
        return parameters

    return apply_infotext


def _as_route(function: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """`function` for FastAPI, which passes the request by the name and type of the original's own parameter."""

    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, *kwargs.values())

    try:
        # Annotations kept as text can only be resolved in the module they were written in.
        signature = inspect.signature(original, eval_str=True)
    except Exception:
        signature = inspect.signature(original)
    called.__signature__ = signature  # type: ignore[attr-defined]
    return called


def _asked(request: Any, img2img: bool, infotext: Mapping[str, object] | None = None) -> Asked:
    settings = dict(getattr(opts(), "data", {}))
    settings.update(getattr(request, "override_settings", None) or {})
    return Asked(
        script=getattr(request, "script_name", None),
        always_on=getattr(request, "alwayson_scripts", None),
        hires_upscaler=getattr(request, "hr_upscaler", None)
        if getattr(request, "enable_hr", False)
        else None,
        img2img=img2img,
        settings=settings,
        infotext=infotext,
        available=_available(),
    )


def _available() -> frozenset[str]:
    shared = sys.modules.get("modules.shared")
    return frozenset(str(upscaler.name) for upscaler in getattr(shared, "sd_upscalers", ()) or ())


def _refuse(why: str | None) -> None:
    if why is None:
        return
    from fastapi import HTTPException

    log.info("a request was refused: %s", why)
    raise meant(HTTPException(status_code=422, detail=why))


def answer_missing_routes(app: Any, decision: Decision) -> list[str]:
    """Where the addresses of something left out are free, say so in their 404; answers with what was added."""
    added = []
    for entry in decision.entries():
        prefix = f"{entry.routes}/"
        if not entry.routes or any(getattr(route, "path", "").startswith(prefix) for route in app.routes):
            continue
        answer = _missing(sentence(entry, prefix + "...", decision))
        app.add_api_route(prefix + "{rest:path}", answer, methods=["GET", "POST"], include_in_schema=False)
        added.append(prefix)
    return added


def _missing(why: str) -> Callable[[], None]:
    def missing() -> None:
        from fastapi import HTTPException

        raise HTTPException(status_code=404, detail=why)

    return missing
