"""Test extension: one call under flux-speedup fails, as the test asks. PROBE_FAULTS: the file of the injector."""

import importlib.util
import os
import sys

from fastapi import Request
from modules import script_callbacks


def load():
    spec = importlib.util.spec_from_file_location("probe_injector", os.environ["PROBE_FAULTS"])
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# What only times a request is around all of its computing, which is not ours.
OURS = ("flux_speedup.weights.", "flux_speedup.storage.", "flux_speedup.hosts.forge.")
AROUND = ("flux_speedup.hosts.common.model_requests", "flux_speedup.hosts.common.unloads")


def under_ours():
    """Whether something that moves weights is among the callers."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(OURS) and name not in AROUND:
            return True
        frame = frame.f_back
    return False


def on_app_started(_demo, app):
    if "PROBE_FAULTS" not in os.environ:
        return
    injector = load()
    running = []

    @app.post("/probe/faults")
    async def faults(request: Request):
        """{"point", "number", "error"}: that call fails next; {"point": null}: calls are counted; {}: neither."""
        told = {}
        if running:
            last = running.pop()
            last.__exit__()
            told = {"calls": dict(last.calls), "raised": last.raised}
        asked = await request.json()
        if asked:
            at = (asked["point"], asked["number"]) if asked["point"] else None
            error = injector.error_of(*at[:1], asked["error"]) if at else None
            running.append(injector.Faults(at, error, only=under_ours).__enter__())
        return told


script_callbacks.on_app_started(on_app_started)
