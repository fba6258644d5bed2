"""What the user asked for: typed, validated, and with the winning source of every key.

The sources come in as plain mappings (config_sources.py reads them), highest precedence first. A value
that does not fit is one sentence naming source, key, value and what is allowed; the next source decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..pruning.catalog import LEFT_OUT
from .kinds import BadValue, Choice, Kind, Names, Number, Seconds, Switch

Value = str | int | float | bool | None | tuple[str, ...]
AS_CONFIGURED = "as configured"
SECTIONS = ("catalog",)
"""Keys of the files that another room reads."""


GROUP_WORDS = ("auto", "keep", "leave out")


@dataclass(frozen=True)
class Config:
    """Every key with its default, the same as in config.json. GiB = 2^30 bytes, as card makers count."""

    enabled: bool = True
    tier: str = "auto"
    large_tier_over_gib: float = 50.0
    large_tier_inference_share: float = 0.25
    large_tier_swap_divisor: float = 1.15
    large_tier_swap_reserve_gib: float = 2.0
    large_tier_low_vram_below_gib: float = -1.0
    large_tier_process_share: float = 0.95
    standard_tier_inference_share: float | None = None
    pinning: bool = True
    streams: bool = True
    attention_kernels: bool = True
    allocator: bool = True
    cudnn_benchmark: bool = False
    weights: bool = True
    direct: str = "auto"
    checkpoints: bool = True
    checkpoints_kept: int = 4
    checkpoints_ram_gib: float = 8.0
    needless_unloads: bool = True
    read_ahead: bool = True
    digest: bool = True
    fast_callbacks: bool = True
    local_models: bool = True
    fetch_at_start: bool = False
    lazy_apps: bool = True
    pruning: bool = True
    left_out: tuple[str, ...] = LEFT_OUT
    keep: tuple[str, ...] = ()
    group_controlnet: str = "auto"
    group_ip_adapter: str = "auto"
    group_guidance: str = "auto"
    group_hires: str = "auto"
    group_upscalers: str = "auto"
    group_batch: str = "auto"
    statistics: bool = True
    statistics_rows: int = 10_000
    requests: bool = True
    load_in_infotext: bool = False
    refresh_s: float = 5.0
    translations: bool = True


KINDS: dict[str, Kind] = {
    "enabled": Switch(),
    "tier": Choice(("auto", "large", "standard", "off")),
    "large_tier_over_gib": Number(0, 4096),
    "large_tier_inference_share": Number(0.05, 0.95),
    "large_tier_swap_divisor": Number(1, 4),
    "large_tier_swap_reserve_gib": Number(0, 64),
    "large_tier_low_vram_below_gib": Number(-64, 0),
    "large_tier_process_share": Number(0.5, 1),
    "standard_tier_inference_share": Number(0.05, 0.95, optional=True),
    "pinning": Switch(),
    "streams": Switch(),
    "attention_kernels": Switch(),
    "allocator": Switch(),
    "cudnn_benchmark": Switch(),
    "weights": Switch(),
    "direct": Choice(("on", "auto", "off")),
    "checkpoints": Switch(),
    "checkpoints_kept": Number(1, 64, whole=True),
    "checkpoints_ram_gib": Number(0, 4096),
    "needless_unloads": Switch(),
    "read_ahead": Switch(),
    "digest": Switch(),
    "fast_callbacks": Switch(),
    "local_models": Switch(),
    "fetch_at_start": Switch(),
    "lazy_apps": Switch(),
    "pruning": Switch(),
    "left_out": Names(),
    "keep": Names(),
    "group_controlnet": Choice(GROUP_WORDS),
    "group_ip_adapter": Choice(GROUP_WORDS),
    "group_guidance": Choice(GROUP_WORDS),
    "group_hires": Choice(GROUP_WORDS),
    "group_upscalers": Choice(GROUP_WORDS),
    "group_batch": Choice(GROUP_WORDS),
    "statistics": Switch(),
    "statistics_rows": Number(100, 10_000, whole=True),
    "requests": Switch(),
    "load_in_infotext": Switch(),
    "refresh_s": Seconds(0, 3600),
    "translations": Switch(),
}


@dataclass(frozen=True)
class Source:
    """Values by key from one place; `name` is shown to people ("command line", a file's path)."""

    name: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class Loaded:
    """The configuration in force, where each key came from, and what was wrong on the way."""

    config: Config
    origin: Mapping[str, str]
    problems: tuple[str, ...]


def load(sources: Iterable[Source]) -> Loaded:
    """Take each key from the first source that has a fitting value, else its default."""
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    problems: list[str] = []
    for source in sources:
        for key, raw in source.values.items():
            if raw == AS_CONFIGURED or key in SECTIONS:
                continue
            kind = KINDS.get(key)
            if kind is None:
                problems.append(f"{source.name}: unknown key {key!r} = {raw!r}; it is ignored")
                continue
            try:
                value = kind.parse(raw)
            except BadValue as allowed:
                problems.append(
                    f"{source.name}: {key} = {raw!r} is not {allowed}; the next source or the default is used"
                )
                continue
            if key not in values:
                values[key] = value
                origin[key] = source.name
    for field in fields(Config):
        origin.setdefault(field.name, "built-in default")
    return Loaded(Config(**values), origin, tuple(problems))
