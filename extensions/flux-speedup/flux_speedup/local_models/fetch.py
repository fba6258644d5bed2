"""The command line that fetches the catalog's weights ahead of time. Needs no WebUI and no package."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..configuration import sources as config_sources
from ..stats.report import size
from . import catalog
from .catalog import Catalog, Entry
from .digests import Digests
from .fetching import How, Row, fetch, verify
from .places import data_folder, models_folder
from .progress import Bar
from .transfer import Patience

USAGE_ERROR = 2
JOBS = 4


def main(arguments: Sequence[str], folder: Path, environ: Mapping[str, str] = os.environ) -> int:
    """The exit code: 0 all there, 1 something is missing, 2 wrong usage. `folder`: the extension's."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    data = data_folder(folder)
    known = _catalog(folder, data, environ, asked.config)
    wanted, unknown = _chosen(known, asked.names, asked.all)
    if unknown or not wanted:
        names = ", ".join(entry.file for entry in known.entries) or "none, its catalog is empty"
        what = f"unknown: {', '.join(unknown)}" if unknown else "give names, or --all"
        parser.print_usage(sys.stderr)
        sys.stderr.write(f"{what}; known: {names}\n")
        return USAGE_ERROR
    models = Path(asked.dest) if asked.dest else models_folder(known, data, environ)
    if models is None:
        sys.stderr.write("this is not in a WebUI's extensions folder: give --dest, the folder for models\n")
        return USAGE_ERROR
    patience = Patience(timeout=10.0, attempts=2) if asked.quick else Patience()
    how = How(models.absolute(), Digests(None), asked.mirror, patience)
    rows = run(wanted, how, jobs=asked.jobs, only_verify=asked.verify)
    sys.stdout.write(table(rows, how.models))
    return 0 if all(row.good for row in rows) else 1


def run(entries: Sequence[Entry], how: How, *, jobs: int = JOBS, only_verify: bool = False) -> list[Row]:
    """All of them, `jobs` at a time, in the order given."""

    def one(numbered: tuple[int, Entry]) -> Row:
        number, entry = numbered
        if only_verify:
            return verify(entry, how)
        bar = Bar(entry.file, number % jobs)
        try:
            return fetch(entry, how, bar)
        finally:
            bar.close()

    pool = ThreadPoolExecutor(jobs)
    try:
        return list(pool.map(one, enumerate(entries)))
    finally:
        # Nobody who interrupts waits for what is under way; parts stay as they are and are gone on with.
        pool.shutdown(wait=False, cancel_futures=True)


def table(rows: Sequence[Row], models: Path) -> str:
    """One line a weight, and one for all."""
    width = max(len(row.entry.file) for row in rows)
    lines = [f"weights in {models}"]
    for row in rows:
        of = f"{size(row.size) if row.size else '':>9}"
        lines.append(f"  {row.entry.file:<{width}}  {row.result.value:<8}{of}  {row.why}".rstrip())
    good = sum(row.good for row in rows)
    return "\n".join([*lines, f"{good} of {len(rows)} are there"]) + "\n"


def _catalog(folder: Path, data: Path | None, environ: Mapping[str, str], chosen: str | None) -> Catalog:
    given = {**environ, "FLUX_SPEEDUP_CONFIG": chosen} if chosen else environ
    gathered = config_sources.gather([], given, shipped=folder / "config.json", data_folder=data)
    found = catalog.load(gathered.sources)
    for problem in (*gathered.problems, *found.problems):
        sys.stderr.write(f"{problem}\n")
    return found


def _chosen(known: Catalog, names: Sequence[str], every: bool) -> tuple[list[Entry], list[str]]:
    """(the entries asked for, names that are none); a name may leave out its suffix."""
    if every:
        return list(known.entries), []
    by_name = {Path(entry.file).stem: entry for entry in known.entries}
    by_name.update({entry.file: entry for entry in known.entries})
    found = {by_name[name].file: by_name[name] for name in names if name in by_name}
    return list(found.values()), [name for name in names if name not in by_name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fetch.py", description="Fetch the small weights of ADetailer and the upscalers ahead of time."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a file of the catalog, such as face_yolov8n.pt"
    )
    parser.add_argument("--all", action="store_true", help="every weight of the catalog")
    parser.add_argument("--dest", metavar="DIR", help="the folder for models; each kind has its own below it")
    parser.add_argument(
        "--jobs", type=_jobs, default=JOBS, metavar="N", help="how many at once (default: %(default)s)"
    )
    parser.add_argument(
        "--mirror", type=_address, metavar="URL", help="a mirror of Hugging Face to ask first"
    )
    parser.add_argument("--verify", action="store_true", help="only check what is there; no network")
    parser.add_argument("--quick", action="store_true", help="give up sooner where nobody answers")
    parser.add_argument(
        "--config", metavar="PATH", help="the configuration file whose catalog is used as well"
    )
    return parser


def _jobs(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 32:
        raise argparse.ArgumentTypeError("1 to 32")
    return number


def _address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("an http or https address")
    return text
