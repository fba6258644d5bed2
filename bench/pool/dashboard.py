"""The dashboard of deploy/grafana over a pool at work: Prometheus scrapes its WebUIs, its queries are drawn.

Needs `prometheus` on the path. What is drawn is what Prometheus answers; Grafana draws it more finely. Runs in the
environment of requirements/serve.txt, as `python -m bench pool`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any

from launcher import embedded
from launcher.environment import ROOT

from ..record import Record, say
from . import running as pool
from .command import zipf

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
SCRAPE_S, INTERVAL = 5, "30s"
COLOURS = (
    "#5794f2",
    "#73bf69",
    "#f2cc0c",
    "#ff780a",
    "#b877d9",
    "#f2495c",
    "#8ab8ff",
    "#96d98d",
    "#ffee52",
    "#ffb357",
)
WIDTH, HEIGHT, GRID, LEGEND = 700, 240, 110, 12
Series = list[tuple[str, list[tuple[float, float]]]]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--webui-python", type=Path, required=True, help="that runs the embedded WebUI")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--svg", type=Path, default=ROOT / "artifacts" / "dashboard.svg")


def run(given: argparse.Namespace, record: Record) -> int:
    """1 where a panel stays empty."""
    python = given.webui_python.absolute()
    models = pool.write_models(python)
    names = sorted(path.name for path in (models / "Stable-diffusion").iterdir())
    with tempfile.TemporaryDirectory(prefix="pool-", dir=ROOT / ".cache") as folder:
        data = Path(folder) / "data"
        with pool.running(python, models, data, given.replicas, by_model=True, kept=1) as url:
            ports = sorted(pool.processes(data).values())
            prometheus = Prometheus(Path(folder), ports)
            try:
                began = time.time()
                for port in ports:
                    measure(f"http://127.0.0.1:{port}")
                asked = iter(zipf(names, 100_000))
                with ThreadPoolExecutor(6) as clients:
                    while time.time() - began < given.seconds:
                        list(
                            clients.map(
                                lambda each: pool.picture(url, each, steps=2),
                                [next(asked) for _ in range(12)],
                            )
                        )
                drawn = [(panel, prometheus.panel(panel, began, time.time())) for panel in panels()]
            finally:
                prometheus.stop()
    given.svg.parent.mkdir(parents=True, exist_ok=True)
    given.svg.write_text(picture(drawn), "utf-8")
    for panel, series in drawn:
        record.row(panel=panel["title"], series=len(series), points=sum(len(points) for _, points in series))
    return 0 if all(series for _, series in drawn) else 1


def measure(url: str) -> None:
    """What the machine can do, before anybody asks for an image: that would end it."""
    pool.ask(url, f"{pool.V1}/measure", {})
    while pool.ask(url, f"{pool.V1}/machine")["measuring"]["state"] == "running":
        time.sleep(0.5)


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return found


class Prometheus:
    """One that scrapes these ports, until it is stopped."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        port = embedded.free_port()
        self._url = f"http://127.0.0.1:{port}"
        targets = [f"127.0.0.1:{each}" for each in ports]
        job = {
            "job_name": "webui",
            "metrics_path": f"{pool.V1}/metrics",
            "static_configs": [{"targets": targets}],
        }
        config = {"global": {"scrape_interval": f"{SCRAPE_S}s"}, "scrape_configs": [job]}
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        words = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
        log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [*words, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def panel(self, panel: dict[str, Any], since: float, until: float) -> Series:
        """What its queries answer, by their legends."""
        found: Series = []
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", INTERVAL).replace("$instance", ".*")
            asked = urllib.parse.urlencode({"query": query, "start": since, "end": until, "step": SCRAPE_S})
            for one in pool.ask(self._url, f"/api/v1/query_range?{asked}")["data"]["result"]:
                name = target["legendFormat"]
                for label, value in one["metric"].items():
                    name = name.replace("{{" + label + "}}", value)
                values = [(float(at), float(value)) for at, value in one["values"]]
                found.append((name, [(at, value) for at, value in values if value == value]))
        say(f"{panel['title']}: {len(found)} series")
        return found


def picture(drawn: Sequence[tuple[dict[str, Any], Series]]) -> str:
    """All panels, where the dashboard has them, as SVG."""
    places = []
    for panel, series in drawn:
        x, y = panel["gridPos"]["x"] / 12 * (WIDTH + 10), panel["gridPos"]["y"] / 8 * (HEIGHT + GRID + 10)
        places.append(f'<g transform="translate({x},{y})">{_panel(panel, series)}</g>')
    rows = max(panel["gridPos"]["y"] for panel, _ in drawn) // 8 + 1
    size = f'width="{2 * WIDTH + 10}" height="{rows * (HEIGHT + GRID + 10)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return f'{head}<rect width="100%" height="100%" fill="#111217"/>{"".join(places)}</svg>\n'


def _panel(panel: dict[str, Any], series: Series) -> str:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    points = [point for _, line in series for point in line]
    first, last = min((at for at, _ in points), default=0), max((at for at, _ in points), default=1)
    top = max((value for _, value in points), default=1) or 1
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT + GRID}" rx="3" fill="#181b1f" stroke="#2c3235"/>',
        f'<text x="12" y="20" fill="#d8d9da" font-weight="bold">{escape(panel["title"])}</text>',
    ]
    for share in (0, 0.5, 1):
        y = HEIGHT - 20 - share * (HEIGHT - 60)
        parts.append(f'<path d="M80 {y}H{WIDTH - 15}" stroke="#2c3235"/>')
        parts.append(
            f'<text x="72" y="{y + 4}" fill="#9fa7b3" text-anchor="end">{_shown(top * share, unit)}</text>'
        )
    for number, (name, line) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        path = "L".join(
            f"{80 + (at - first) / max(1, last - first) * (WIDTH - 95):.1f} "
            f"{HEIGHT - 20 - value / top * (HEIGHT - 60):.1f}"
            for at, value in line
        )
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if number < LEGEND:
            x, y = 15 + number % 2 * WIDTH // 2, HEIGHT + 5 + number // 2 * 17
            parts.append(f'<rect x="{x}" y="{y - 4}" width="14" height="3" fill="{colour}"/>')
            now = _shown(line[-1][1], unit) if line else ""
            parts.append(f'<text x="{x + 20}" y="{y}" fill="#ccccdc">{escape(name)}: {now}</text>')
    if len(series) > LEGEND:
        more = f"and {len(series) - LEGEND} more"
        parts.append(f'<text x="{WIDTH - 15}" y="20" fill="#9fa7b3" text-anchor="end">{more}</text>')
    return "".join(parts)


def _shown(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.0%}"
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}{'B/s' if unit == 'Bps' else 'B' if unit == 'bytes' else ''}"
    return f"{value:.3g}{' s' if unit == 's' else ''}"
