"""The shapes of requests, memory, models and machine in the API's answers; see models.py."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from ..facts.plain import plain, text
from ..facts.view import MemoryUse
from ..stats.first_image import FirstImage
from ..stats.machine import Machine, Measuring, Savings
from ..stats.requests import Pass, Request
from .models import Json


class StepsModel(BaseModel):
    """The iterations of a sampler."""

    count: int
    seconds: float = Field(description="of one, as the device timed it")
    waited: float | None = Field(description="of these, those that waited for weights; null: not known")
    bytes: int = Field(description="of weights that came during one")
    rate_gb_s: float | None = Field(description="at which they came: 10^9 bytes a second")


class PassModel(BaseModel):
    """One pass inside a request, without the passes inside it."""

    name: str
    seconds: float
    parts: dict[str, float]
    steps: StepsModel | None = Field(description="null where nothing was sampled")


class RequestModel(BaseModel):
    """One request and where its seconds went."""

    key: str = Field(description="unique")
    number: int = Field(description="counts up within a process")
    here: bool = Field(
        description="of the process that answers; false: of another one, or of an earlier start"
    )
    kind: str = Field(description="txt2img, img2img or extras")
    via: str = Field(description="page or API")
    began: float | None = Field(description="seconds since the epoch")
    seconds: float = Field(description="the whole; so far where it still runs")
    parts: dict[str, float] = Field(description="seconds by part; together they are `seconds`")
    passes: list[PassModel]
    bytes: int = Field(description="moved to the device")
    images: int
    running: bool
    failed: bool


class SavingsModel(BaseModel):
    """Seconds that the WebUI's own way would have taken longer."""

    since_start: float
    in_request: float | None
    estimated: bool
    how: str


class FirstImageModel(BaseModel):
    """What the first image after this start waited for."""

    waited_for: str = Field(description="disk or start, whichever ended later")
    start: float | None = Field(description="seconds of the WebUI's start")
    wanted: int = Field(description="bytes that were read ahead for it")
    read: int = Field(description="of these, those that were in RAM when it was asked for")
    cold: int = Field(description="bytes that it read from the disk itself")
    models: float = Field(description="its seconds for models that load, move or unload")


class RequestsModel(BaseModel):
    """Requests of all processes, newest first, and what this one saved."""

    simulated: bool
    requests: list[RequestModel]
    savings: SavingsModel
    first_image: FirstImageModel | None = Field(description="null until it is made")


class FormModel(BaseModel):
    """Weights of a component that have one form and go one way to the device."""

    component: str
    form: str = Field(description="bf16, fp8 e4m3, GGUF Q8_0, NF4, ...")
    way: str = Field(description="file; file, made on the card; RAM; or WebUI")
    count: int
    bytes: int
    why: str = Field(description="why they are left to the WebUI")


class ModelModel(BaseModel):
    """A built checkpoint; sizes in bytes."""

    key: str = Field(description="for POST drop")
    name: str
    where: str = Field(description="in use or kept")
    file_bytes: int
    device_bytes: int
    ram_bytes: int
    forms: list[FormModel]


class CheckpointModel(BaseModel):
    """A checkpoint that the WebUI lists, and how far it is from the next image."""

    names: list[str] = Field(description="all that a request may call it")
    where: str = Field(description="card, kept (built, not on the card), page cache or disk")
    bytes: int
    cached: float | None = Field(description="share of the file in the page cache; null: not known")
    seconds: float | None = Field(description="until it is on the card, estimated; null: nothing moved yet")


class LocalWeightModel(BaseModel):
    """A detector's or upscaler's weight of the catalog."""

    name: str
    kind: str = Field(description="adetailer, esrgan, realesrgan or a word of the user's")
    state: str = Field(description="found, missing, redirected, downloaded or refused")
    path: str
    size: int = Field(description="bytes; 0 where there is none")
    why: str


class LimitsModel(BaseModel):
    """What this machine can do, in GB/s; null where it was not measured."""

    at: float
    device: str
    disk: float | None
    page_cache: float | None
    bus: float | None
    host_load: float | None
    host_unload: float | None


class MeasuringModel(BaseModel):
    """A measurement under way or ended."""

    state: str = Field(description="idle, running, done, cancelled or failed")
    share: float = Field(description="0 to 1")
    doing: str
    why: str


class PartModel(BaseModel):
    """A component on the device, and its bytes."""

    component: str
    bytes: int


class StreamedModel(BaseModel):
    """A model of which a part comes while it computes, in bytes."""

    component: str
    resident: int = Field(description="stays on the device")
    coming: int = Field(description="comes at each pass")
    ring: int = Field(description="memory on the device that it comes through")
    held: int = Field(description="of the ring, what is taken now")
    source: str


class MemoryModel(BaseModel):
    """Where memory is right now, in bytes; null where it cannot be known."""

    vram_by_model: list[PartModel]
    vram_used: int | None
    vram_total: int | None
    page_cache: int | None
    anonymous: int | None
    pinned: int | None
    registered: int | None = Field(description="of `pinned`, pages of files that the card reads by itself")
    ram_available: int | None
    ram_total: int | None
    streamed: list[StreamedModel]
    inference: int | None = Field(description="kept free on the card for computing")


class MachineModel(BaseModel):
    """The newest measurement of this machine, the one under way, and memory."""

    measured: LimitsModel | None
    measuring: MeasuringModel
    memory: MemoryModel


def requests_json(
    simulated: bool, requests: Sequence[Request], savings: Savings, first: FirstImage | None
) -> Json:
    """A `RequestsModel`."""
    listed = [
        {**plain(request), "key": request.key, "passes": [_pass(each) for each in request.passes]}
        for request in requests
    ]
    told = None if first is None else {**plain(first), "waited_for": first.waited_for}
    return {"simulated": simulated, "requests": listed, "savings": plain(savings), "first_image": told}


def _pass(one: Pass) -> Json:
    steps = None if one.steps is None else {**plain(one.steps), "rate_gb_s": one.steps.rate}
    return {**plain(one), "steps": steps}


def machine_json(machine: Machine | None, measuring: Measuring, memory: MemoryUse) -> Json:
    """A `MachineModel`."""
    by_model = [{"component": text(name), "bytes": size} for name, size in memory.vram_by_model]
    return {
        "measured": plain(machine),
        "measuring": plain(measuring),
        "memory": {**plain(memory), "vram_by_model": by_model},
    }
