"""Seconds a request in a whole WebUI, headless over its API: without the extension and with it, in turns.

    python -m bench webui --webui DIR --make tiny                       without a GPU, some minutes
    python -m bench webui --webui DIR --make flux --cards 12,24,all     with one; needs 60 GB for the files
    python -m bench webui --webui DIR --make flux-q8                    GGUF; also -q4k, -nf4, -fp8, -fp8-aio
    python -m bench webui --webui DIR --models DIR                      with your own files

Every form is there as tiny, too (tiny-q8). NF4 takes bitsandbytes in the WebUI's environment.
A smaller card is this one that says it is smaller and refuses what would not fit. Variants: ours, alone,
alone-tuned (--cuda-stream --pin-shared-memory), ours-tuned; configuration follows a plus: ours+streams=off.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.clock import Budget
from bench.flux import models
from bench.record import Record, say

from .cases import CASES, UNASKED
from .host import DETECTOR, Host, detector, host_at
from .pictures import BAR_MB, compared, less_free
from .server import Gone, Server, Start
from .turn import Turn
from .variants import Variant, variant


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--webui", type=Path, required=True, metavar="DIR", help="a checkout that starts")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--models", type=Path, metavar="DIR", help="a models folder that is there")
    source.add_argument("--make", choices=models.KINDS, help="models of random numbers")
    add("--into", type=Path, metavar="DIR", help="where made models go; those there are used again")
    add(
        "--adetailer",
        type=Path,
        metavar="DIR",
        help="ADetailer's checkout, for the case seed; a detector is made",
    )
    add("--cards", type=_cards, default=[None], help="sizes in GiB, or all: 8,12,16,24,all")
    add("--variants", type=_variants, default=_variants("ours,alone"), help="default: ours,alone")
    add(
        "--reference",
        action="store_true",
        help="pictures are compared with those of the WebUI alone on the whole card, too",
    )
    usual = [name for name in CASES if name not in UNASKED]
    add("--cases", type=_cases, default=usual, help=f"{', '.join(CASES)}; default: {','.join(usual)}")
    add("--rounds", type=int, default=1, help="how often, every other time in the other order")
    add("--size", type=_pair, default=None, metavar="WxH", help="default: 1024x1024; tiny: 64x64")
    add("--steps", type=_pair, default=None, metavar="FEWxMANY", help="default: 2x8; tiny: 1x3")
    add("--no-hash", action="store_true", help="no model hashes, with the extension and without")
    add("--budget", type=float, default=3600.0, metavar="SECONDS")
    add("--logs", type=Path, default=None, metavar="DIR", help="keep what every WebUI printed")


def run(given: argparse.Namespace, record: Record) -> int:
    host, about = host_at(given.webui)
    if given.adetailer and not (given.adetailer / "scripts").is_dir():
        raise SystemExit(f"{given.adetailer} has no folder scripts: not a checkout of ADetailer")
    cards: list[float | None] = given.cards if host.gpu else [None]
    if cards != given.cards:
        say("no GPU here: cards of other sizes are left out")
    tiny = (given.make or "").startswith("tiny")
    given.size = given.size or ((64, 64) if tiny else (1024, 1024))
    given.steps = given.steps or ((1, 3) if tiny else (2, 8))
    settings = {"models": given.make or "found", "size": given.size, "steps": given.steps}
    record.about(webui=about, settings={**settings, "hashes": not given.no_hash})
    budget = Budget(given.budget)
    with tempfile.TemporaryDirectory(prefix="bench-webui-") as scratch:
        into = given.into or Path(scratch) / "models"
        if given.make:
            made = models.made(into, given.make, second={"switch", "seed"} & set(given.cases) != set())
        else:
            made = models.found(given.models.absolute())
        if given.adetailer:
            detector(host, made.folder)
        say(f"{given.budget - budget.left():.1f} s for the models in {made.folder}")
        record.end(Run(given, host, made, record, budget, Path(scratch)).all(cards))
    pictures = compared(record.rows)
    taken = less_free(record.rows)
    record.about(pictures=pictures, taken_after_an_unload_mb=taken)
    for where, size in taken.items():
        say(f"after an unload {size} MB more are taken than alone ({where}; at most {BAR_MB})")
    say(
        f"{record.content['ended']}; pictures compared {pictures['compared']}, identical {pictures['identical']}"
    )
    return 1 if pictures["different"] or any(size > BAR_MB for size in taken.values()) else 0


@dataclass(frozen=True)
class Run:
    """All turns of a run."""

    given: argparse.Namespace
    host: Host
    models: models.Models
    record: Record
    budget: Budget
    scratch: Path

    def all(self, cards: list[float | None]) -> str:
        """Every card with every variant; how it ended."""
        for number, card, each in self._turns(cards):
            try:
                self._turn(number, card, each)
            except Gone as gone:
                say(f"{each.name}: {gone}")
                self.record.row(**_named(number, card, each), request="the turn", error=str(gone)[-1500:])
            if self.budget.left() <= 0:
                return "out of time"
        return "complete"

    def _turns(self, cards: list[float | None]) -> Iterator[tuple[int, float | None, Variant]]:
        for number in range(self.given.rounds):
            # Every other round the other way round: whoever comes second must not always gain from it.
            variants = self.given.variants[:: -1 if number % 2 else 1]
            yield from ((number, card, each) for card in cards for each in variants)
        if self.given.reference:
            yield 0, None, variant("alone")

    def _turn(self, number: int, card: float | None, each: Variant) -> None:
        """A data folder a variant: hashes and statistics of an earlier turn are there, as in a second start."""
        data = self.scratch / each.name
        flags = (*each.flags, *(("--no-hashing",) if self.given.no_hash else ()))
        tiny = (self.given.make or "").startswith("tiny")
        start = Start(data, each.extension, flags, self.models.folder, self.models.options(), card, tiny)
        if self.given.adetailer:
            start = replace(start, others=(self.given.adetailer,))
        width, height = self.given.size
        common = {
            "width": width,
            "height": height,
            "cfg_scale": 1,
            "distilled_cfg_scale": 3.5,
            "sampler_name": "Euler",
            "scheduler": "Simple",
            "steps": self.given.steps,
            "checkpoint": self.models.checkpoint,
            "second": self.models.second,
            "loras": self.models.loras,
            "detector": DETECTOR if self.given.adetailer else None,
        }
        server = Server(self.host, start, self.budget)
        try:
            with server:
                Turn(server, self.record, _named(number, card, each), common).ask(self.given.cases)
        finally:
            if self.given.logs:
                self.given.logs.mkdir(parents=True, exist_ok=True)
                shutil.copy(data / "log.txt", self.given.logs / f"{each.name}-{card or 'all'}-{number}.log")


def _named(number: int, card: float | None, each: Variant) -> dict[str, Any]:
    return {"round": number, "card": card or "all", "variant": each.name, "extension": each.extension}


def _cards(text: str) -> list[float | None]:
    return [None if each == "all" else float(each) for each in text.split(",")]


def _variants(text: str) -> list[Variant]:
    return [variant(each) for each in text.split(",")]


def _cases(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    return names


def _pair(text: str) -> tuple[int, int]:
    one, two = map(int, text.split("x"))
    return one, two
