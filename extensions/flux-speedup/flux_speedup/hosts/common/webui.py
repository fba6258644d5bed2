"""What every WebUI of the A1111 family has: folders, flags, options, callbacks. No memory manager of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...memory import Card, MemoryPlan
from ...patching.change import Call, Change, Declined, whatever_is_there
from ...ram import Rule
from ...stats.events import Event
from .card import torch_card
from .loads import CheckpointLoads
from .options import Options, flags, opts

if TYPE_CHECKING:
    from ...stats.tracking import Tracking
    from ...weights.packed.background import Background as Packing
    from .inside import Inside
    from .pruning import Pruner
    from .sampling import Streamed
    from .stages import Stages

Record = Callable[[Event], None]
NOT_AVAILABLE = "not available on this WebUI"
NEEDS_WEIGHTS = "it needs weights to stay in their files"
NEEDS_A_CARD = "it needs a CUDA device"


@dataclass(frozen=True)
class MemoryItem:
    """One part of a memory plan as an item of the patch table; `why` has the figures, where there are any."""

    key: str
    title: str
    why: str
    changes: list[Change]


class WebUI:
    """A host of which nothing but the family is known: whatever takes knowing more is not available.

    Methods named `*_changes` describe changes for the patch table and change nothing themselves. Where this
    host has none for an item they raise Declined, with the reason.

    has_tiers: its memory numbers can be set. runs_flux: it can load a Flux checkpoint.
    family: its name in the table of settings. builds_at_start: a model may be under way when it has started.
    unavailable: why an item has no changes here, by the item's key.
    weights_item: what is done about weights, and why.
    """

    has_tiers = False
    runs_flux = False
    family = ""
    builds_at_start = True
    unavailable: ClassVar[Mapping[str, str]] = {}
    weights_item = ("Weights stay in their files", "the GPU is a cache over the files")

    def __init__(self) -> None:
        self.options = Options()
        self._pruner: Pruner | None = None
        self._stages: Stages | None = None

    @property
    def name(self) -> str:
        """What people call this WebUI."""
        return "WebUI of the A1111 family"

    def why_not(self, item: str) -> str:
        """Why an item is not available here."""
        return self.unavailable.get(item, NOT_AVAILABLE)

    # Folders and flags: usable from preload on.

    def data_folder(self) -> Path | None:
        """Where the WebUI keeps the user's data (`--data-dir`)."""
        paths = sys.modules.get("modules.paths_internal")
        found = getattr(paths, "data_path", None)
        return Path(found) if found else None

    def cache_folder(self) -> Path | None:
        """Where our own files go: the WebUI's git ignores it."""
        data = self.data_folder()
        return data / "cache" / "flux-speedup" if data else None

    def settings_file(self) -> Path | None:
        """The file the WebUI saves its options in."""
        arguments = getattr(sys.modules.get("launch"), "args", None)
        found = getattr(arguments, "ui_settings_file", None)
        return Path(found) if found else None

    def settings(self) -> Mapping[str, object] | None:
        """The options as loaded, or None while they are not."""
        found = opts()
        return found.data if found is not None else None

    def simulated(self) -> bool:
        """The device is a stand-in and no figure counts as a measurement."""
        return False

    # Memory: what a host without a manager answers.

    def card(self) -> Card:
        return torch_card(getattr(sys.modules.get("launch"), "args", None))

    def memory_changes(self, plan: MemoryPlan) -> list[MemoryItem]:
        """An item for every part of the plan."""
        return []

    def memory_options(self, plan: MemoryPlan) -> dict[str, tuple[str, object]]:
        """Item -> (option, value): the WebUI's options that go with items in force."""
        return {}

    def streams_unavailable(self) -> str | None:
        """Why no copy stream can be used, or None where one can."""
        return self.why_not("streams")

    def stream_changes(self) -> list[Change]:
        return []

    def page_changes(self, held: Callable[[], frozenset[str]]) -> list[Change]:
        """Changes that keep memory settings through page loads; `held` names the items they must keep."""
        return []

    def pruner(self) -> Pruner:
        """What leaves scripts out when the WebUI lists them; one for the life of the process."""
        if self._pruner is None:
            from ...pruning.disabled import Remembered
            from .pruning import Pruner

            self._pruner = Pruner(lambda: Remembered(self.cache_folder()).names())
        return self._pruner

    def weight_changes(self, direct: Rule) -> list[Change]:
        """Changes that stream weights from their files and drop them at unload.

        `direct`: how much RAM files may take that are registered for loads, so that the GPU reads them itself.
        """
        raise Declined(self.why_not("weights"))

    def checkpoint_changes(
        self, limits: tuple[int, int], record: Record, held: Callable[[], frozenset[str]]
    ) -> list[Change]:
        """Changes that keep built models: (so many, bytes of RAM) at most. Asked after `weight_changes`."""
        raise Declined(self.why_not("checkpoints"))

    def streaming_changes(self, registers: bool) -> list[Change]:
        """Changes that stream what does not fit on the card. Asked after `weight_changes`.

        `registers`: files may be registered, so that the GPU reads them itself.
        """
        raise Declined(self.why_not("streaming"))

    def overlap_changes(self) -> list[Change]:
        """Changes that bring models before they are asked for. Asked after `streaming_changes`."""
        raise Declined(self.why_not("overlap"))

    def unload_changes(self) -> list[Change]:
        """Changes that unload models and forget encodings only where something they depend on changed."""
        raise Declined(self.why_not("needless_unloads"))

    def digest_changes(self) -> list[Change]:
        """Changes that compute the sha256 of a weight file once, and off the path where possible."""
        raise Declined(self.why_not("digest"))

    def hash_wait_changes(self, never: bool) -> list[Change]:
        """Changes that let no load wait for a checkpoint's hash. Asked after `digest_changes`.

        `never`: images go without a hash that is not there yet.
        """
        return []

    def lora_hash_wait_changes(self) -> list[Change]:
        """The same for LoRAs. Asked after `hash_wait_changes`."""
        return []

    def packed_changes(self, limit: int) -> list[Change]:
        """Changes that read packed weights, and make them, `limit` bytes at most. Asked after `weight_changes`."""
        raise Declined(self.why_not("packed"))

    def packing(self) -> Packing | None:
        """What makes packed files; None before `packed_changes`, and where it was declined."""
        return None

    def read_ahead_changes(self) -> list[Change]:
        """Changes that read the selected model's files ahead. Asked after `digest_changes`."""
        raise Declined(self.why_not("read_ahead"))

    def read_ahead_progress(self) -> tuple[int, int]:
        """Bytes of the selected model's files that were read ahead so far, and of all that had to be."""
        return 0, 0

    def timing_changes(self, record: Record) -> list[Change]:
        """Changes that report what this host tells of loading: here, every checkpoint as a whole."""
        return CheckpointLoads(record).changes()

    def request_changes(self, tracking: Tracking, in_infotext: bool) -> list[Change]:
        """Changes that tell `tracking` which stage of which request runs.

        `in_infotext`: images name what loading took.
        """
        from .sampling import Sampling
        from .stages import Stages

        self._stages = Stages(tracking, in_infotext)
        sampling = Call(partial(whatever_is_there, Sampling(tracking, self.streams).changes()))
        return [*self._stages.changes(), sampling]

    def streams(self) -> Sequence[Streamed]:
        """Models of which a part comes to the device while they compute."""
        return ()

    def late_request_changes(self) -> list[Change]:
        """Those for what is there only once the WebUI has started."""
        return self._stages.late_changes() if self._stages is not None else []

    # The started WebUI.

    def inside(self) -> Inside:
        """What can be asked of it and done to it."""
        from .inside import Inside

        return Inside()

    def startup_stages(self) -> list[tuple[str, float]]:
        """(stage, seconds) of this start, as the WebUI timed it, and the total under the name `total`."""
        timer = getattr(sys.modules.get("modules.timer"), "startup_timer", None)
        if timer is None:
            return []
        return [*timer.records.items(), ("total", timer.total)]

    def on(self, event: str, function: Callable[..., Any]) -> None:
        """Register a callback by its name in `modules.script_callbacks`, without the `on_`."""
        from modules import script_callbacks

        getattr(script_callbacks, f"on_{event}")(function)

    def knows(self, event: str) -> bool:
        """Whether this WebUI has that callback."""
        return hasattr(sys.modules.get("modules.script_callbacks"), f"on_{event}")

    def api_is_on(self) -> bool:
        """The WebUI serves an API: `--api` or `--nowebui`."""
        return bool(getattr(flags(), "api", False) or getattr(flags(), "nowebui", False))
