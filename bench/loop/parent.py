"""A process a variant, and what came of it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measure.output import say, write_json
from measure.places import BENCH

from .files import prepare, prepare_tiny
from .options import PARTS, log_of
from .results import Row, compared, summary


def parent(options: argparse.Namespace) -> int:
    until = time.time() + options.budget
    if options.tiny:
        prepare_tiny(options)
    else:
        prepare(options)
    rows: list[Row] = []
    failed = False
    for number, variant in enumerate(options.variants):
        lines = Path(f"{options.work}/forge-loop-{variant}.jsonl")
        lines.unlink(missing_ok=True)
        left = until - time.time()
        if left < 20:
            say(f"{variant}: not run, the budget is used up")
            continue
        # Ours leave the host, which is last and slow, its part.
        share = left if number == len(options.variants) - 1 else left * options.share
        if code := run_child(options, variant, lines, share):
            failed = True
            say(f"{variant}: ended with {code}; its log: {log_of(options, variant)}")
            say("\n".join(log_of(options, variant).read_text(errors="replace").splitlines()[-12:]))
        if lines.exists():
            rows += [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
        save(options, rows)
    result = save(options, rows)
    summary(rows, result)
    failed = failed or any("error" in row for row in rows)
    return 1 if failed or result["different"] else 0


def run_child(options: argparse.Namespace, variant: str, lines: Path, share: float) -> int:
    """Its exit status, after `share` seconds at most, and some to end by itself."""
    command = [sys.executable, str(BENCH / "forge_loop.py"), *sys.argv[1:]]
    command += ["--child", variant, "--until", str(time.time() + share), "--rows", str(lines)]
    for part in (*PARTS, "second"):
        command += [f"--{part}", str(getattr(options, part))]
    process = subprocess.Popen(command)
    try:
        return process.wait(share + 15)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
        say(f"{variant}: stopped, the budget is used up")
        return code


def save(options: argparse.Namespace, rows: list[Row]) -> dict[str, Any]:
    """After every variant, so that what there is survives what comes."""
    result = {**compared(rows), "rows": rows}
    write_json(options.json, result)
    return result
