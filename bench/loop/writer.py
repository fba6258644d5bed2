"""A variant's phases: what they took and what they gave."""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import json
import pstats
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from measure import clock


class OutOfTime(Exception):
    """The budget is used up."""


class Writer:
    """A line and a row for every phase, at once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.variant = options.child
        self.case = ""
        self._until = options.until
        self._profiled = options.profile
        self._screen = sys.stdout
        self._rows = options.rows.open("a", encoding="utf-8")

    def row(self, line: str, **row: Any) -> None:
        self._rows.write(json.dumps({"variant": self.variant, "case": self.case, **row}) + "\n")
        self._rows.flush()
        print(f"{self.variant:6s} | {self.case:32s} | {line}", file=self._screen, flush=True)

    def timed(self, name: str, what: Callable[[], Any], **more: Any) -> Any:
        if time.time() > self._until:
            raise OutOfTime
        if any(part in name for part in self._profiled):
            what = partial(profiled, name, what)
        seconds, result = clock.timed(what)
        label = f"image {more['image']}: {name}" if "image" in more else name
        self.row(f"{label:44s} {seconds:9.3f} s", phase=label, name=name, seconds=seconds, **more)
        return result

    def output(self, phase: str, tensor: torch.Tensor) -> None:
        data = tensor.detach().to("cpu").contiguous()
        finite = bool(torch.isfinite(data).all()) if data.is_floating_point() else True
        digest = hashlib.sha256(data.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        note = "" if finite else "  NOT FINITE: proves little"
        self.row(f"{phase:44s} sha256 {digest[:16]}{note}", phase=phase, sha256=digest, finite=finite)


def profiled(name: str, what: Callable[[], Any]) -> Any:
    """Where the time goes, into the log; it takes longer than without."""
    profile = cProfile.Profile()
    result = profile.runcall(what)
    print(f"-- {name}")
    pstats.Stats(profile, stream=sys.stdout).sort_stats("cumulative").print_stats(45)
    return result
