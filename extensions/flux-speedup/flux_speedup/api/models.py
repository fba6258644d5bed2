"""The shapes of the API's answers (for pydantic 1.10 and 2 alike) and how they are filled."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from ..facts.view import ConfigRow, Status
from ..stats.events import Event, Totals

Json = dict[str, object]
# Strict, in this order: pydantic 1 would turn every value into the first type that takes it.
ConfigValue = StrictBool | StrictInt | StrictFloat | StrictStr | None


class OutcomeModel(BaseModel):
    """One change that the extension makes to the WebUI, or does not make."""

    item: str = Field(description="stable key")
    title: str
    state: str = Field(description="pending, applied, skipped, failed or put back")
    why: str


class StatusModel(BaseModel):
    """What the extension is doing in this process right now."""

    version: str
    host: str
    enabled: bool
    card: str
    tier: str
    tier_why: str
    simulated: bool = Field(description="true: a stand-in for a GPU, whose figures say nothing of one")
    outcomes: list[OutcomeModel]


class EventModel(BaseModel):
    """A checkpoint built from files, a move to the device, an unload, or a stage of the start."""

    kind: str
    what: str
    bytes: int
    seconds: float | None
    source: str
    target: str
    at: float | None = Field(description="seconds since the epoch when it ended")
    detail: str
    rate_gb_s: float | None = Field(description="10^9 bytes a second; null where it does not apply")


class TotalModel(BaseModel):
    """The sum over the events of one kind."""

    count: int
    bytes: int
    seconds: float | None
    rate_gb_s: float | None


class StatsModel(BaseModel):
    """Events, newest first, and the sums of this process by kind."""

    simulated: bool
    events: list[EventModel]
    totals: dict[str, TotalModel]
    next_offset: int | None = Field(description="offset of the next page; null on the last")


class ConfigRowModel(BaseModel):
    """One configuration key as it is in force, and the source that won."""

    key: str
    value: ConfigValue
    source: str
    default: ConfigValue
    allowed: str = Field(description="its values, in words")
    group: str
    help: str
    hosts: list[str] = Field(description="where it has an effect")
    restart: bool = Field(description="true: Reload UI does not bring it in force")


def text(value: object) -> str:
    """`value` as text for every JSON reader: lone surrogates, as in some file names, become escapes."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def number(value: float | None) -> float | None:
    """`value`, or None where JSON has no word for it."""
    return value if value is not None and math.isfinite(value) else None


def status_json(status: Status) -> Json:
    """A `StatusModel`."""
    return {
        "version": text(status.version),
        "host": text(status.host),
        "enabled": status.enabled,
        "card": text(status.card),
        "tier": text(status.tier),
        "tier_why": text(status.tier_why),
        "simulated": status.simulated,
        "outcomes": [
            {
                "item": text(outcome.item),
                "title": text(outcome.title),
                "state": outcome.state.value,
                "why": text(outcome.why),
            }
            for outcome in status.outcomes
        ],
    }


def stats_json(simulated: bool, events: Sequence[Event], totals: Totals, next_offset: int | None) -> Json:
    """A `StatsModel`."""
    sums = {
        text(kind): {
            "count": total.count,
            "bytes": total.bytes,
            "seconds": number(total.seconds),
            "rate_gb_s": total.rate,
        }
        for kind, total in totals.by_kind.items()
    }
    return {
        "simulated": simulated,
        "events": [_event_json(event) for event in events],
        "totals": sums,
        "next_offset": next_offset,
    }


def _event_json(event: Event) -> Json:
    return {
        "kind": text(event.kind),
        "what": text(event.what),
        "bytes": event.bytes,
        "seconds": number(event.seconds),
        "source": text(event.source),
        "target": text(event.target),
        "at": number(event.at),
        "detail": text(event.detail),
        "rate_gb_s": event.rate,
    }


def config_json(rows: Sequence[ConfigRow]) -> list[Json]:
    """A list of `ConfigRowModel`."""
    return [
        {
            "key": text(row.key),
            "value": _value(row.value),
            "source": text(row.source),
            "default": _value(row.default),
            "allowed": row.allowed,
            "group": row.group,
            "help": row.help,
            "hosts": list(row.hosts),
            "restart": row.restart,
        }
        for row in rows
    ]


def _value(value: object) -> object:
    if value is None or isinstance(value, (bool, int)):
        return value
    return number(value) if isinstance(value, float) else text(value)
