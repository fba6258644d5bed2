"""docs/benchmarks.md and its pictures, made from the JSON files in docs/benchmarks/: nothing in them is typed.

python -m bench NAME ... --json docs/benchmarks/NAME.json && python -m bench page
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bench import RESULTS
from bench.record import Record

from .table import markdown, picture
from .tables import tables

HEAD = """# Benchmarks

Made by `python -m bench page` from the JSON files in [benchmarks](benchmarks): every figure is one of theirs.
`python -m bench` lists the programs; each writes such a file on any machine. Seconds belong to the machine that is
named; compare what stands in one table. Variants: *ours* is the WebUI with this extension and its defaults, *alone*
without it, *tuned* with the WebUI's own flags for small cards. Weights are random numbers in the real shapes unless
a section says otherwise; a smaller card is the one named, which says that it is smaller and refuses what would not
fit. Pictures count as identical when their files are, byte for byte.
"""
TITLES = {
    "webui": "A whole WebUI",
    "loads": "Weights to the device",
    "start": "The start of the WebUI",
    "preload": "Preload",
}


def pages(results: Path) -> dict[Path, str]:
    """Every file that is made, with its text; paths are those of the page and of the pictures."""
    made, parts = {}, [HEAD]
    order = list(TITLES)
    found = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(results.glob("*.json"))]
    for path, content in sorted(found, key=lambda each: order.index(each[1]["bench"])):
        parts.append(f"## {TITLES[content['bench']]}: {path.stem}\n")
        parts.append(_about(path, content))
        for number, table in enumerate(tables(content), 1):
            if table.drawn:
                image = results / f"{path.stem}-{number}.svg"
                made[image] = picture(table)
                parts.append(f"### {table.title}\n\n![{table.title}]({results.name}/{image.name})\n")
            parts.append(markdown(table) + "\n")
    made[results.with_suffix(".md")] = "\n".join(parts)
    return made


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")


def run(given: argparse.Namespace, record: Record) -> int:
    made = pages(given.results)
    for path in set(given.results.glob("*.svg")) - made.keys():
        path.unlink()
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    return 0


def _about(path: Path, content: dict[str, Any]) -> str:
    """Date, machine, versions and settings, and whether pictures were the same."""
    told = content["machine"] | content.get("webui", {}) | content.get("settings", {})
    words = [f"{key.replace('_', ' ')} {_word(value)}" for key, value in told.items() if value is not None]
    for webui in content.get("webuis", []):
        words.append(f"{webui['folder']} with python {webui['python']}, torch {webui['torch']}")
    text = f"{content['date']}; {'; '.join(words)}. [{path.name}]({path.parent.name}/{path.name})"
    if content["ended"] != "complete":
        text += f". The run ended before it was done: {content['ended']}"
    if "pictures" in content:
        pictures = content["pictures"]
        text += f". Pictures compared: {pictures['compared']}, identical: {pictures['identical']}"
    return text + ".\n"


def _word(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)
