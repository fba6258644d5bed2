"""What is pasted into a bug report: the figures, and nothing that says who made them or of what."""

from __future__ import annotations

import pytest

from flux_speedup.facts import bug_report
from flux_speedup.facts.bug_report import LEFT_OUT
from flux_speedup.facts.view import ConfigRow, MemoryUse, Status
from flux_speedup.patching.table import Outcome, State
from flux_speedup.stats.events import Event
from flux_speedup.stats.machine import Machine, Savings
from flux_speedup.stats.requests import Pass, Request

SECRET = "secret-project"
OUTCOMES = (
    Outcome("tier", "Tier", State.APPLIED, "large tier: 49.5 GiB"),
    Outcome("weights", "Weights", State.FAILED, f"FileNotFoundError: /home/me/{SECRET}/flux.safetensors"),
    Outcome(
        "digest", "Digest", State.SKIPPED, f"cannot read C:\\Users\\{SECRET} one\\flux.safetensors at all"
    ),
)
EVENTS = (
    Event("move", "transformer", 23_800_000_000, 0.51, "page cache", "GPU", detail=SECRET),
    Event("checkpoint", f"{SECRET}.safetensors", 24, 1.0, "file", "RAM"),
)
REQUEST = Request(
    3, "txt2img", "API", 5.0, 2.5, {"load": 0.5, "sampling": 2.0}, (Pass("hires", 1.0, {"sampling": 1.0}),)
)


def report() -> str:
    return bug_report.text(
        Status("0.1.0", "Forge", True, "NVIDIA H100", "large", "79.1 GiB", False, OUTCOMES),
        [
            ConfigRow("tier", "large", f"/home/me/{SECRET}.json", "auto"),
            ConfigRow("streams", False, "environment", True),
            ConfigRow("weights", True, "environment", True),
            ConfigRow("keep", f"/home/{SECRET}/x", "environment", ""),
            ConfigRow("allowed_hosts", SECRET, "environment", "", private=True),
        ],
        EVENTS,
        [REQUEST],
        Machine(5.0, "NVIDIA H100", disk=1.5, bus=55.0),
        Savings(12.5, 2.5, True, "an estimate"),
        MemoryUse(((SECRET, 5),), vram_used=3 * 10**9),
    )


def test_the_figures_are_there() -> None:
    text = report()
    for part in (
        "flux-speedup 0.1.0 on Forge, on",
        "card: NVIDIA H100",
        "changed from the defaults:",
        "  tier = large (a file)",
        "  streams = False (environment)",
        "  allowed_hosts = set (environment)",
        "move transformer: 23.8 GB in 0.51 s, 46.7 GB/s page cache -> GPU",
        "checkpoint a model:",
        "txt2img by API: 2.50 s (load 0.50 s, sampling 2.00 s; passes: hires 1.00 s)",
        "saved: 12.5 s",
        "disk 1.5 GB/s, bus 55.0 GB/s",
        "weights: failed (FileNotFoundError)",
        "tier: applied (large tier: 49.5 GiB)",
        "vram_used 3.0 GB",
    ):
        assert part in text, text


def test_no_path_and_no_name_is() -> None:
    text = report()
    assert "weights = True" not in text
    for part in (SECRET, "home", "Users", "safetensors/", ".json"):
        assert part not in text


@pytest.mark.parametrize(
    ("sentence", "kept"),
    [
        ("max(free / 1.15, free - 2 GiB)", "max(free / 1.15, free - 2 GiB)"),
        ("modules.processing has no sample", "modules.processing has no sample"),
        ("cannot open /srv/a b/c", LEFT_OUT),
        ("D:\\models\\x is gone", LEFT_OUT),
        ("my own flux1-dev.SafeTensors: no header", LEFT_OUT),
        ("\\\\server\\share", LEFT_OUT),
        ("it is '/srv/x'", LEFT_OUT),
    ],
)
def test_what_looks_like_a_path_goes(sentence: str, kept: str) -> None:
    assert bug_report.without_paths(sentence) == kept
