"""The shapes of the API's answers (for pydantic 1.10 and 2 alike), as its documentation shows them.

They are filled from the dataclasses of the same fields (`facts.plain`); what is made here is what those lack.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from ..facts.plain import plain
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


def stats_json(simulated: bool, events: Sequence[Event], totals: Totals, next_offset: int | None) -> Json:
    """A `StatsModel`."""
    return {
        "simulated": simulated,
        "events": [{**plain(event), "rate_gb_s": event.rate} for event in events],
        "totals": {kind: {**plain(total), "rate_gb_s": total.rate} for kind, total in totals.by_kind.items()},
        "next_offset": next_offset,
    }
