"""Which items the patch table gets: the configuration and the tier's plan turned into changes of the host."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..configuration.config import Config
from ..hosts.common import settings_file, translations
from ..hosts.common.webui import NEEDS_WEIGHTS, WebUI
from ..memory import GIB, Card, MemoryPlan, Tier, plan
from ..patching.change import Change, Declined
from ..patching.table import PatchTable, State
from ..stats.events import Event
from . import garbage
from .memory import arm_memory, arm_torch, direct_rule, tier_rules
from .scripts import arm_refusals, at_listing
from .switch import switch, where_available

if TYPE_CHECKING:
    from ..stats.tracking import Tracking

SETTINGS_FILE = "The WebUI's settings file stays whole"
STREAMING = "Models that do not fit are streamed"
OVERLAP = "Models come while they are built and the text is encoded"
GARBAGE = "What the start made is left out of garbage collection"
CHECKPOINTS = "Checkpoints used before are kept"
UNLOADS = "Nothing is unloaded without a reason"
PACKED = "Packed weights are read in their place"
READ_AHEAD = "The selected model is read ahead"
DIGEST = "Model hashes off the path"
HASH_WAIT = "No load waits for a hash"
LORA_HASH_WAIT = "No LoRA's first use waits for its hash"
REQUESTS = "Times of requests"
TRANSLATIONS = "The tab in the language of the WebUI"


def apply(
    table: PatchTable,
    host: WebUI,
    card: Card,
    config: Config,
    *,
    argv: Sequence[str],
    environ: MutableMapping[str, str],
) -> MemoryPlan:
    """At preload: decide the tier and arm what must be in force before scripts are loaded."""
    decided = plan(card, tier_rules(config))
    if decided.tier is not Tier.NONE and not host.has_tiers:
        decided = MemoryPlan(Tier.NONE, host.why_not("tier"))
    # First, so that it is the last to be put back: until then nothing of ours is saved.
    why = "it is put in place whole, and what others set here is not kept in it"
    table.add("settings_file", SETTINGS_FILE, why, settings_file.changes())
    arm_torch(table, card, config, decided, argv, environ)
    arm_memory(table, host, decided, config)
    at_listing(table, host, decided, config)
    pages = host.page_changes(table.applied) if host.has_tiers else []
    if pages:
        why = "a page load posts the values of its own start over what is in force"
        table.add("page_loads", "Memory settings survive a page load", why, pages)
    return decided


def apply_with_scripts(
    table: PatchTable,
    host: WebUI,
    decided: MemoryPlan,
    config: Config,
    record: Callable[[Event], None],
    tracking: Tracking,
) -> None:
    """With the scripts, still before any model: the options, which are loaded by now, and all about models."""
    in_force = table.applied()
    for item, (option, value) in host.memory_options(decided).items():
        if item in in_force:
            table.extend(item, [host.options.change(option, value)])
    arm_refusals(table, host, config)
    weights = ("weights", *host.weights_item)
    where_available(table, config.weights, weights, lambda: host.weight_changes(direct_rule(config)))
    why = "some layers stay on the card, the others come from their files while it computes"
    registers = config.direct != "off"
    streaming = ("streaming", STREAMING, why)
    _with_weights(table, config, config.streaming, streaming, lambda: host.streaming_changes(registers))
    overlap = ("overlap", OVERLAP, "where there is room for both")
    _with_weights(table, config, config.overlap, overlap, host.overlap_changes)
    _checkpoints(table, host, config, record)
    unloads = ("needless_unloads", UNLOADS, "what did not change since the last image stays")
    where_available(table, config.needless_unloads, unloads, host.unload_changes)
    digest = ("digest", DIGEST, "once in a file's life, if possible while the WebUI starts")
    where_available(table, config.digest, digest, host.digest_changes)
    _hash_wait(table, host, config)
    packed = ("packed", PACKED, f"at most {config.packed_gib:g} GiB of the disk")
    limit = int(config.packed_gib * GIB)
    _with_weights(table, config, config.packed, packed, lambda: host.packed_changes(limit))
    ahead = ("read_ahead", READ_AHEAD, "the first load finds its files in RAM")
    where_available(table, config.read_ahead, ahead, host.read_ahead_changes)
    why = (
        "Russian and Chinese texts of ours join the localisation that is chosen; read when the page is built"
    )
    switch(table, config.translations, ("translations", TRANSLATIONS, why), translations.changes())
    switch(
        table,
        config.statistics,
        ("statistics", "Load times", "every load, move and unload is timed"),
        host.timing_changes(record),
    )
    # Last, so that it is around everything else: what the others do belongs to a request too.
    _requests(table, host, config, tracking)


def apply_when_started(table: PatchTable, host: WebUI, config: Config) -> None:
    """With the WebUI started: what exists only then joins the items that are in force."""
    if "requests" in table.applied():
        table.extend("requests", host.late_request_changes())
    item = ("garbage", GARBAGE, "it stays anyway, and each look through it takes tenths of a second")
    where_available(table, config.garbage, item, lambda: garbage.changes(host.builds_at_start))


def _with_weights(
    table: PatchTable,
    config: Config,
    wanted: bool,
    item: tuple[str, str, str],
    changes: Callable[[], Sequence[Change]],
) -> None:
    def where_there_are() -> Sequence[Change]:
        if not config.weights:
            raise Declined(NEEDS_WEIGHTS)
        return changes()

    where_available(table, wanted, item, where_there_are)


def _checkpoints(table: PatchTable, host: WebUI, config: Config, record: Callable[[Event], None]) -> None:
    kept, ram = config.checkpoints_kept, config.checkpoints_ram_gib
    item = ("checkpoints", CHECKPOINTS, f"at most {kept} models with {ram:g} GiB of RAM")
    tell = record if config.statistics else _tell_nobody
    limits = (kept, int(ram * GIB))
    changes = partial(host.checkpoint_changes, limits, tell, table.applied)
    _with_weights(table, config, config.checkpoints, item, changes)


def _hash_wait(table: PatchTable, host: WebUI, config: Config) -> None:
    never = config.hash_wait == "never"
    why = "images go without what is not there yet" if never else "texts wait for it, after sampling"
    checkpoints, loras = ("hash_wait", HASH_WAIT, why), ("lora_hash_wait", LORA_HASH_WAIT, why)
    where_available(table, config.digest, checkpoints, lambda: host.hash_wait_changes(never))
    where_available(table, config.digest, loras, host.lora_hash_wait_changes)


def _requests(table: PatchTable, host: WebUI, config: Config, tracking: Tracking) -> None:
    if config.requests and not config.statistics:
        table.note("requests", REQUESTS, State.SKIPPED, "it needs statistics")
        return
    why = "the seconds of every request are told apart"
    if config.load_in_infotext:
        why += ", and image files name what loading took"
    changes = host.request_changes(tracking, config.load_in_infotext) if config.requests else []
    switch(table, config.requests, ("requests", REQUESTS, why), changes)


def _tell_nobody(_: Event) -> None:
    return None
