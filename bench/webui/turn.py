"""One start of a WebUI: the cases are asked one after the other, and every answer is a row."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Callable
from typing import Any

from bench.record import Record, Row, say

from .cases import CASES, CAT
from .log import said
from .pictures import examined
from .server import Gone, Server


class Turn:
    """What `cases` asks: rows of one card, one variant and one round."""

    def __init__(
        self,
        server: Server,
        record: Record,
        about: Row,
        common: dict[str, Any],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.steps: tuple[int, int] = common.pop("steps")
        self.checkpoint: str = common.pop("checkpoint")
        self.second: str | None = common.pop("second")
        self.loras: tuple[str, ...] = common.pop("loras")
        self.detector: str | None = common.pop("detector")
        self._server, self._record, self._about, self._common = server, record, about, common
        self._rows: dict[str, Row] = {}
        self._sleep = sleep

    def ask(self, names: list[str]) -> None:
        """The cases by name; raises `Gone` where the WebUI ended or the time is over."""
        self._record.row(**self._about, request="start", seconds=round(self._server.seconds, 3))
        for name in names:
            CASES[name](self)
        found = a_step(self._rows.get("few steps"), self._rows.get("more steps"))
        if found is not None:
            self._record.row(**self._about, request="a step", seconds=found[0], by=found[1])

    def image(self, name: str, **body: Any) -> str | None:
        """The picture in base64; None where the WebUI refused, which is a row as well."""
        body = {"prompt": CAT, "seed": 1, "steps": self.steps[1], **self._common, **body}
        path = "/sdapi/v1/img2img" if "init_images" in body else "/sdapi/v1/txt2img"
        before = self._server.log_size()
        began = time.perf_counter()
        try:
            picture: str = self._server.post(path, body)["images"][0]
        except urllib.error.HTTPError as refused:
            text = f"{refused.code}: {refused.read().decode(errors='replace')[:300]}"
            lost, lines = round(time.perf_counter() - began, 3), said(self._server.log(before)).lines
            self._record.row(
                **self._about, request=name, error=text, lost=lost, **self._memory(), lines=lines
            )
            return None
        except (OSError, KeyError, IndexError) as gone:
            self._record.row(**self._about, request=name, error=repr(gone)[:300])
            raise Gone(f"no answer to {name!r}: {gone!r}") from gone
        seconds = time.perf_counter() - began
        told = said(self._server.log(before))
        looked = examined(picture)
        self._rows[name] = row = {
            "seconds": round(seconds, 3),
            "steps": body["steps"],
            "moving": told.moving,
            "building": told.building,
            **self._told(),
        }
        self._record.row(
            **self._about,
            request=name,
            **row,
            file=looked.file,
            pixels=looked.pixels,
            text=looked.text,
            **({"flat": True} if looked.flat else {}),
            **self._memory(),
            lines=told.lines,
        )
        return picture

    def unload(self) -> None:
        began = time.perf_counter()
        self._server.post("/sdapi/v1/unload-checkpoint", {})
        seconds = round(time.perf_counter() - began, 3)
        self._record.row(**self._about, request="unload", seconds=seconds, **self._memory())

    def pause(self, seconds: float) -> None:
        self._sleep(seconds)
        self._record.row(**self._about, request="pause", seconds=seconds, **self._memory())

    def _memory(self) -> Row:
        """GB: VRAM that is free and that PyTorch had taken at most since the start, RAM of the process.

        `retries`: how often PyTorch found no memory at first, which stops the device each time.
        """
        try:
            answer = self._server.get("/sdapi/v1/memory")
        except OSError as refused:
            say(f"  (no memory figures: {refused})")
            return {}
        row = {"ram": round(answer["ram"]["used"] / 1e9, 3)} if "used" in answer["ram"] else {}
        if "system" in answer["cuda"]:
            row["vram_free"] = round(answer["cuda"]["system"]["free"] / 1e9, 3)
            row["vram_peak"] = round(answer["cuda"]["reserved"]["peak"] / 1e9, 3)
            row["retries"] = answer["cuda"]["events"]["retries"]
            # What is taken beside these is the driver's: its context, kernels, streams, registered pages.
            for what in ("reserved", "allocated"):
                row[f"vram_{what}"] = round(answer["cuda"][what]["current"] / 1e9, 3)
        return row

    def _told(self) -> Row:
        """Where the request's seconds went and its iterations, as the extension tells it; nothing without it."""
        if not self._about["extension"]:
            return {}
        try:
            (latest, *_) = self._server.get("/flux-speedup/v1/requests?limit=1")["requests"]
        except (OSError, KeyError, ValueError):
            return {}
        iterations = [each["steps"] for each in latest.get("passes", ()) if each["steps"] is not None]
        parts = {part: round(spent, 3) for part, spent in latest["parts"].items() if spent >= 0.0005}
        return {"parts": parts, **({"iterations": iterations} if iterations else {})}


def a_step(few: Row | None, more: Row | None) -> tuple[float, str] | None:
    """Seconds of one iteration, and who says so: the device's own events, where the extension tells of them, else
    the difference of two requests, less what each of them moved and built by the WebUI's own word.
    """
    if few is None or more is None:
        return None
    if more.get("iterations"):
        return round(more["iterations"][0]["seconds"], 4), "the device"
    spent = [row["seconds"] - row["moving"] - row["building"] for row in (few, more)]
    return round((spent[1] - spent[0]) / (more["steps"] - few["steps"]), 4), "two requests, less what moved"
