"""`./test --soak`: every long job with its full count, or `--share 0.01` of it; figures go to a JSON file."""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "extensions" / "flux-speedup"), str(ROOT)]

from tests.soak import bodies, cards, configurations, crowd, forge_faults, headers, kills, lives, loads, neo  # noqa: E402
from tests.soak.outcome import Outcome  # noqa: E402

FORGE = Path.home() / "stable-diffusion-webui-forge"


def jobs(share: float, folder: Path, forge: Path) -> dict[str, Callable[[], Outcome]]:
    """By name, each with its count: 100,000 configurations, 500 kills, ten minutes of a crowd, ..."""

    def of(count: int) -> int:
        return max(1, int(count * share))

    found: dict[str, Callable[[], Outcome]] = {
        "configurations": lambda: configurations.run(of(100_000)),
        "bodies": lambda: bodies.run(of(100_000)),
        "headers": lambda: _headers(of(1_000_000)),
        "lives": lambda: lives.run(of(1000), folder / "lives"),
        "kills": lambda: kills.run(of(500), folder / "kills"),
        "loads": lambda: loads.run(of(20), folder / "loads"),
        "neo": lambda: neo.run(of(5), folder / "neo"),
    }
    if (forge / "backend").is_dir():
        found["forge_faults"] = lambda: forge_faults.run(of(2_000), forge, folder / "faults")
        found["cards"] = lambda: cards.run(of(40), forge, folder / "cards")
        found["crowd"] = lambda: crowd.run(600 * share, forge, folder / "crowd")
    else:
        print(f"no Forge checkout at {forge}: what needs one is left out", flush=True)
    return found


def _headers(count: int) -> Outcome:
    outcome = Outcome("headers, against the safetensors library")
    counts = headers.run(count)
    outcome.tried = count
    outcome.figures |= {"accepted by both": counts.accepted, "refused by both": counts.refused}
    for different, _ in counts.different:
        outcome.finding(different)
    return outcome


def main() -> int:
    """The exit code: 0 where nothing was found."""
    parser = argparse.ArgumentParser("soak", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of each job's count")
    parser.add_argument("--forge", type=Path, default=FORGE)
    parser.add_argument("--json", type=Path, default=ROOT / "artifacts" / "soak.json")
    parser.add_argument("jobs", nargs="*", help="names; all where none is given")
    options = parser.parse_args()
    logging.getLogger("flux_speedup").setLevel(logging.CRITICAL)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        chosen = jobs(options.share, Path(folder), options.forge)
        for name in options.jobs or chosen:
            rows.append(chosen[name]().as_row())
            print(json.dumps(rows[-1]), flush=True)
            options.json.parent.mkdir(parents=True, exist_ok=True)
            report = {"python": platform.python_version(), "system": platform.system(), "jobs": rows}
            options.json.write_text(json.dumps(report, indent=1))
    findings = sum(int(str(row["findings"])) for row in rows)
    print(f"{len(rows)} jobs, {findings} findings: {options.json}", flush=True)
    return 0 if findings == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
