"""What one long job came to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

MOST_KEPT = 20


@dataclass
class Outcome:
    """`tried`: how many attempts; `figures`: whatever else is worth telling; `wrong`: the first findings."""

    job: str
    tried: int = 0
    figures: dict[str, object] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    findings: int = 0
    started: float = field(default_factory=time.monotonic)

    def finding(self, what: str) -> None:
        self.findings += 1
        if len(self.wrong) < MOST_KEPT:
            self.wrong.append(what)

    def as_row(self) -> dict[str, object]:
        """For the report: plain values."""
        seconds = round(time.monotonic() - self.started, 1)
        return {
            "job": self.job,
            "tried": self.tried,
            "findings": self.findings,
            "seconds": seconds,
            **self.figures,
            "wrong": self.wrong,
        }
