"""Bodies and headers at random to the routes that change something: what is not a sound request changes nothing."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import httpx

from tests.soak.configurations import key, value
from tests.soak.outcome import Outcome
from tests.unit import test_api

REFUSALS = frozenset({400, 401, 403, 409, 415, 422})
JSON = "application/json"
TYPES = (JSON, f"{JSON}; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", "")
ORIGINS = (None, "http://test", "http://evil.example", "null", "file://")

KNOWN = {
    f"{test_api.V1}/measure": ["cancel"],
    f"{test_api.V1}/drop": ["key"],
    f"{test_api.V1}/remove_traces": ["statistics"],
}
"""What a body may hold; of what is not named here, a body at random seldom has a name that exists."""


class Watched(test_api.FakeView):
    """Counts what was done."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: list[str | None] = []

    def drop(self, key: str | None) -> str:
        self.dropped.append(key)
        return super().drop(key)


def run(count: int, seed: int = 0) -> Outcome:
    """`count` requests."""
    outcome = Outcome("API bodies")
    answers: Counter[int] = Counter()
    asyncio.run(_ask_all(count, random.Random(seed), outcome, answers))
    outcome.figures["answers"] = {str(status): number for status, number in sorted(answers.items())}
    return outcome


async def _ask_all(count: int, rng: random.Random, outcome: Outcome, answers: Counter[int]) -> None:
    view, settings = Watched(), test_api.Settings()
    app = test_api.made(view, settings=settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for number in range(count):
            outcome.tried += 1
            path = rng.choice(test_api.WRITES)
            sound, content, headers = _request(rng, path)
            before = len(view.dropped), len(settings.taken)
            try:
                answer = await client.post(path, content=content, headers=headers)
            except Exception as error:
                outcome.finding(f"number {number}: {type(error).__name__}: {error}")
                continue
            answers[answer.status_code] += 1
            shown = f"number {number}: {path} {headers} {content[:120]!r}: {answer.status_code}"
            if answer.status_code not in REFUSALS | {200}:
                outcome.finding(shown)
            if not sound and answer.status_code == 200:
                outcome.finding(f"{shown}, though nobody may ask so")
            if answer.status_code != 200 and (len(view.dropped), len(settings.taken)) != before:
                outcome.finding(f"{shown}, and something was changed")


def _request(rng: random.Random, path: str) -> tuple[bool, bytes, dict[str, str]]:
    """Whether headers and body are those of a sound request (its values may still be refused), and both."""
    kind = rng.choice(TYPES)
    origin = rng.choice(ORIGINS)
    headers = {name: text for name, text in (("content-type", kind), ("origin", origin)) if text}
    if rng.random() < 0.2:
        headers["sec-fetch-site"] = rng.choice(("cross-site", "same-site", "same-origin", "none"))
    known = KNOWN.get(path)
    body: Any = {
        (rng.choice(known) if known and rng.random() < 0.7 else key(rng)): value(rng)
        for _ in range(rng.randrange(3))
    }
    if rng.random() < 0.1:
        body = value(rng)
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    spoiled = rng.random() < 0.1
    if spoiled:
        at = rng.randrange(len(content) + 1)
        content = content[:at] + bytes([rng.randrange(256)]) + content[at:]
    sound = (
        kind.startswith(JSON)
        and origin in (None, "http://test")
        and headers.get("sec-fetch-site") != "cross-site"
    )
    return sound, content, headers
