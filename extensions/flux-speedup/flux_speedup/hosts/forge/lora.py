"""LoRA changes without copies of clean weights: what is on the device has its clean bytes in its file.

`LoraLoader.refresh` of the host copies every weight it merges into to RAM first (`backup`), and moves the copies
back one by one at the next change. Ours hands out the clean weights themselves as that backup: views of their
file, which cost nothing. At the next change they are put back and read anew, and merged into: the same arithmetic
on the same bytes on the same device. So whoever lives on the host's contract (its own `refresh`, or a copy of it)
finds what it expects; and whether a weight is merged is looked up there, not remembered beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ... import shortage
from ...patching.change import Declined
from ...weights.errors import WeightsError, let_go
from ...weights.named import all_names
from ...weights.residency.forms import KINDS
from ...weights.residency.placement import Placement
from ...weights.residency.residency import Residency
from ..common.engine import CPU
from .merged import DROPPED, put_merged, slots, take_back

# sha256 of the source of LoraLoader.refresh, white space aside, that ours was written against.
KNOWN_SOURCES = frozenset(
    {
        "01030f93f236364cd71b9eb79d83f048979e7a9520cf60075aef51489a386810",
        "e1ee06ce14f86b18556fa4598ce94ded980c60e0f6783624aab73442ae634d49",  # /embedded_webui
    }
)
log = logging.getLogger("flux_speedup")
_thread = threading.local()


class NoRoom(Exception):
    """Merging by us ran out of memory. All weights are clean, and where they were."""


class Merges:
    """`LoraLoader.refresh`, as a whole."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement

    def wrap_refresh(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Raises Declined where the host's source is not the one this was written against."""
        found = fingerprint(original)
        if found not in KNOWN_SOURCES:
            raise Declined(f"LoraLoader.refresh of this Forge is unknown ({found[:12]}); its own is used")

        @torch.inference_mode()
        def refresh(
            loader: Any, lora_patches: Any, offload_device: Any = CPU, force_refresh: bool = False
        ) -> Any:
            forced = {"force_refresh": True} if force_refresh else {}
            hashes = str(list(lora_patches.keys()))
            if (hashes != loader.loaded_hash or force_refresh) and self._refreshed(loader, lora_patches):
                # The host's own finds nothing left to do; whoever has wrapped it before us sees the call.
                loader.loaded_hash, forced = hashes, {}
            try:
                return original(loader, lora_patches=lora_patches, offload_device=offload_device, **forced)
            except BaseException:
                # It may have merged some already, and would not look at them again for the list it had before.
                loader.loaded_hash = DROPPED
                raise

        return refresh

    def _refreshed(self, loader: Any, lora_patches: Any) -> bool:
        """Whether the model has these LoRAs now; else what is left of any merge is for the host's own to mend.

        Raises NoRoom inside `raises_no_room`.
        """
        lora = _host_lora()
        devices = lora.get_parameter_devices(loader.model)
        try:
            fresh = self._read_anew(loader, devices)
            residency = self._placement.of(loader.model)
            if not _can(residency, loader, lora_patches):
                return False
            merge_in(residency, loader, merges_of(lora_patches), fresh)
        except (RuntimeError, MemoryError, WeightsError) as error:
            loader.loaded_hash = DROPPED
            let_go(error)
            failed = error.with_traceback(None)
        else:
            return True
        # Out of the handler: what the failure held is free.
        if shortage.of_card(failed) and is_to_raise():
            with contextlib.suppress(WeightsError):
                self._read_anew(loader, devices)
                raise NoRoom(str(failed))
        log.warning("changing LoRAs failed (%s); falling back to the WebUI's own way", failed)
        # The host's own leaves every weight where it is now.
        lora.set_parameter_devices(loader.model, parameter_devices=devices)
        return False

    def _read_anew(self, loader: Any, devices: dict[str, torch.device]) -> set[str]:
        """The clean weights again where merged ones were, each on the device that the merged one was on; the names
        of those that were brought there now.
        """
        keys = list(loader.backup)
        take_back(loader)
        by_device: dict[torch.device, list[str]] = {}
        for key, (_, _, now) in slots(loader.model, keys).items():
            device = devices.get(key, CPU)
            if device != CPU and now.device != device:
                by_device.setdefault(device, []).append(key)
        for device, names in by_device.items():
            skipped = self._placement.load(loader.model, device, names).skipped
            if skipped:
                raise WeightsError(None, f"{skipped[0]} could not be read back to {device}")
        return {name for names in by_device.values() for name in names}


@contextlib.contextmanager
def raises_no_room() -> Iterator[None]:
    """In here `refresh` raises NoRoom, instead of leaving it to the host: the caller makes room."""
    _thread.raises = True
    try:
        yield
    finally:
        _thread.raises = False


def is_to_raise() -> bool:
    """Whether this thread is in `raises_no_room`."""
    return bool(getattr(_thread, "raises", False))


def fingerprint(function: Callable[..., Any]) -> str:
    """sha256 of a function's source without white space, or "no source"."""
    try:
        source = inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        return "no source"
    return hashlib.sha256("".join(source.split()).encode()).hexdigest()


def _host_lora() -> Any:
    # Asked at each use: others replace functions in there.
    from backend.patcher import lora

    return lora


def _can(residency: Residency, loader: Any, lora_patches: Any) -> bool:
    """Whether all there is to do is to merge into plain weights, at home or on the device by our doing."""
    if loader.online_backup or any(online for (_, _, _, online) in lora_patches):
        return False
    keys = {key for patches in lora_patches.values() for key in patches}
    if not keys <= residency.movable(keys):
        return False
    return all(isinstance(now, torch.nn.Parameter) for _, _, now in slots(loader.model, keys).values())


Merge = Callable[[torch.Tensor], torch.Tensor]
"""The weight with its LoRAs in it, in new memory."""


@dataclass(frozen=True, eq=False)
class LoraMerge:
    """All LoRAs of one weight, merged by the host's own arithmetic."""

    patches: list[Any]
    key: str

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        kind = KINDS.get(type(weight))
        return self._merged(weight) if kind is None else kind.merged(weight, self._merged)

    def _merged(self, weight: torch.Tensor) -> torch.Tensor:
        merged: torch.Tensor = _host_lora().merge_lora_to_weight(
            self.patches, weight, self.key, computation_dtype=torch.float32
        )
        return merged


def merges_of(lora_patches: Any) -> dict[str, Merge]:
    """How each weight gets all its LoRAs, in the host's order; those on the fly are not merged."""
    by_key: dict[str, list[Any]] = {}
    for (_, _, _, online), patches in lora_patches.items():
        for key, current in patches.items():
            if not online:
                by_key.setdefault(key, []).extend(current)
    return {key: LoraMerge(current, key) for key, current in by_key.items()}


def merge_in(
    residency: Residency, loader: Any, merges: Mapping[str, Merge], fresh: Collection[str] = ()
) -> None:
    """Merge into clean weights of the loader's module, as they are now; the clean ones are its backup.

    `fresh`: names of those that have just come, where nobody has written yet.
    """
    tied = Counter(id(p) for _, p in all_names(loader.model)[0])
    # What somebody changed on the device is found out before anything is merged over it, and saved.
    leave = residency.leaving(merges, fresh)
    found = slots(loader.model, merges)
    for key, merge in merges.items():
        clean = found[key][2]
        put_merged(loader, key, found[key], merge(clean))
        if tied[id(clean)] == 1:
            leave(clean)
