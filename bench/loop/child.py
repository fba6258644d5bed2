"""One variant in a process of its own: every case, phase by phase."""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from contextlib import nullcontext

import torch

from .cases import CASES, TINY_CASES, Case
from .forge_backend import Forge
from .images import image
from .options import log_of
from .ours import Ours
from .scene import Scene
from .steps import steps
from .writer import OutOfTime, Writer


def child(options: argparse.Namespace) -> int:
    writer = Writer(options)
    log = log_of(options, options.child).open("w", buffering=1, encoding="utf-8")
    sys.stdout = log
    logging.basicConfig(stream=log, level=logging.INFO)
    started = time.perf_counter()
    forge = Forge(options)
    writer.case = "start"
    writer.row(f"imports {time.perf_counter() - started:.1f} s, {forge.describe()}", phase="imports")
    ours = Ours(forge, direct=options.child == "direct") if options.child != "host" else None
    try:
        with torch.inference_mode():
            for case in TINY_CASES if options.tiny else CASES:
                if options.cases and not any(wanted in case.name for wanted in options.cases):
                    continue
                writer.case = case.name
                play(case, forge, ours, writer, options)
    except OutOfTime:
        writer.row("not finished: the budget is used up", phase="budget")
    finally:
        sys.stdout = sys.__stdout__
    return 0


def play(case: Case, forge: Forge, ours: Ours | None, writer: Writer, options: argparse.Namespace) -> None:
    forge.clear()
    left = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    if left > 64 << 20:
        writer.row(
            f"{left / 1e9:.2f} GB of an earlier case are on the device still", phase="left", bytes=left
        )
    with forge.card(case), ours.case(case) if ours else nullcontext():
        files = [options.flux, *(getattr(options, part) for part in ("t5", "clip", "ae"))]
        scene = Scene(forge, writer, options, files)
        try:
            scene.build("forge_loader")
            if case.steps:
                steps(scene, options.second)
            else:
                for number in range(1, options.images + 1):
                    image(scene, number)
            if ours and case.steps:
                kept = sum(ours.kept_ram())
                writer.row(f"{'RAM of kept models':44s} {kept / 1e9:9.2f} GB", phase="kept", bytes=kept)
            if torch.cuda.is_available():
                peak = torch.cuda.max_memory_allocated() - forge.ballast_size
                writer.row(f"{'most device memory':44s} {peak / 1e9:9.2f} GB", phase="peak", bytes=peak)
        except (RuntimeError, OSError) as error:
            traceback.print_exc(file=sys.stdout)
            traceback.clear_frames(error.__traceback__)
            writer.row(
                f"FAILED: {type(error).__name__}: {str(error)[:200]}", phase="failed", error=str(error)
            )
        finally:
            scene.close()
