"""LoRAs in split models, by the host's own arithmetic: what stays has them at once, what streams as it arrives."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...stats.report import size as in_words
from ...weights.errors import WeightsError, let_go
from ...weights.streaming.split import Split
from ...weights.streaming.unit import Merge
from .lora import LoraMerge, NoRoom, merges_of, raises_no_room
from .merged import DROPPED, is_hosts
from .need import manager

if TYPE_CHECKING:
    from .streamed import Streamed

SMALL = 1 / 8
"""Of a weight's bytes: what of a LoRA is kept on the device for it."""
MERGING = 1 << 30
"""Bytes: a Flux's largest weight in fp32, the LoRA's difference, their sum, and room for the allocator. Where they
are merged as they arrive, that is beside what computing takes.
"""
ATTEMPTS = 4
log = logging.getLogger("flux_speedup")


@dataclass(frozen=True)
class Known:
    """The merges of a model, and what the host's loader calls that list of LoRAs; None where nobody knows."""

    hash: str | None
    merges: Mapping[str, Merge]


class StreamedLoras:
    """`LoraLoader.refresh`, around whatever else is around it."""

    def __init__(
        self,
        of: Callable[[torch.nn.Module], Streamed | None],
        drop: Callable[[torch.nn.Module], None],
        computing: Callable[[], int],
    ) -> None:
        """`of`: a model's split. `drop`: end it, so that the host merges at home. `computing`: bytes for that."""
        self._of = of
        self._drop = drop
        self._computing = computing
        self._merges: weakref.WeakKeyDictionary[torch.nn.Module, Known] = weakref.WeakKeyDictionary()

    def wrap_refresh(
        self, original: Callable[..., Any], make_room: Callable[[int], int]
    ) -> Callable[..., Any]:
        """`make_room`: so many bytes are to become free; answers how many did."""

        def refresh(
            loader: Any, lora_patches: Any, offload_device: Any = None, force_refresh: bool = False
        ) -> Any:
            offload_device = torch.device("cpu") if offload_device is None else offload_device
            arguments = loader, lora_patches, offload_device, force_refresh
            for attempt in range(ATTEMPTS):
                try:
                    with raises_no_room():
                        return self._refresh(original, *arguments)
                except NoRoom as error:
                    let_go(error)
                # All weights are clean now, and nobody knows better.
                self._merges[loader.model] = Known(loader.loaded_hash, {})
                manager().soft_empty_cache()
                gone = make_room(MERGING << attempt)
                if gone <= 0:
                    break
                log.info("out of memory: %s of weights gave way to merging LoRAs", in_words(gone))
            return self._refresh(original, *arguments)

        return refresh

    def _refresh(
        self,
        original: Callable[..., Any],
        loader: Any,
        lora_patches: Any,
        offload_device: Any,
        force_refresh: bool,
    ) -> Any:
        model = loader.model
        before = self.known(model)
        known = self._merges[model] = Known(str(list(lora_patches.keys())), merges_of(lora_patches))
        streamed = self._of(model)
        if streamed is None:
            return original(loader, lora_patches, offload_device, force_refresh)
        merges = known.merges
        online = any(is_online for (_, _, _, is_online) in lora_patches)
        if merges and (online or loader.online_backup or is_hosts(loader)):
            log.info("LoRAs of both kinds at once: the WebUI merges them, and swaps the model by itself")
            return self._by_host(original, loader, lora_patches, offload_device)
        if force_refresh or before.hash != known.hash:
            self._make_room(streamed, merges)
            streamed.split.set_merges(at_hand(merges))
        streams = streamed.split.streamed_names
        staying = {
            name: {key: patches for key, patches in by_key.items() if name[3] or key not in streams}
            for name, by_key in lora_patches.items()
        }
        done = original(loader, staying, offload_device, force_refresh)
        if is_hosts(loader):
            log.info("the WebUI merged LoRAs by itself, and swaps the model by itself")
            return self._by_host(original, loader, lora_patches, offload_device)
        return done

    def _by_host(
        self, original: Callable[..., Any], loader: Any, lora_patches: Any, offload_device: Any
    ) -> Any:
        self._drop(loader.model)
        manager().bake_gguf_model(loader.model)  # it merges into what is at home
        return original(loader, lora_patches, offload_device, True)

    def _make_room(self, streamed: Streamed, merges: Mapping[str, Merge]) -> None:
        """Units stream instead of staying where merging would not find the memory that it takes."""
        if not merges:
            return
        host = manager()
        room, cached = host.get_free_memory(streamed.device, torch_free_too=True)
        if room - cached < MERGING:
            host.soft_empty_cache()  # what lies about in pieces is no room for a whole weight
        beside = self._computing() if streamed.split.streaming else 0
        missing = MERGING + beside - room
        if missing <= 0:
            return
        try:
            streamed.give_way(missing)
        except WeightsError as error:
            log.warning("nothing gives way to merging LoRAs (%s)", error)

    def known(self, model: torch.nn.Module) -> Known:
        """The merges that weights on the device have now: whatever joins them must have them too."""
        known = self._merges.get(model)
        loader = getattr(model, "lora_loader", None)
        if known is None or loader is None or loader.loaded_hash != known.hash or is_hosts(loader):
            return Known(None, {})
        return known

    def are_in(self, model: torch.nn.Module, known: Known) -> None:
        """All weights of a model have these, merged already or as they arrive: its loader may say so."""
        loader = getattr(model, "lora_loader", None)
        if loader is not None and known.hash is not None:
            loader.loaded_hash = known.hash

    def can_split(self, model: torch.nn.Module) -> bool:
        """Whether all that the host knows of LoRAs in its weights is known here, and nothing is in its backup."""
        loader = getattr(model, "lora_loader", None)
        if loader is None or loader.online_backup or is_hosts(loader):
            return loader is None
        known = self._merges.get(model)
        return loader.loaded_hash == (known.hash if known is not None else str([]))

    def dropped(self, model: torch.nn.Module, split: Split) -> None:
        """What streamed has no LoRA in it at home: the host's loader must merge again."""
        loader = getattr(model, "lora_loader", None)
        if loader is not None and not split.streamed_names.isdisjoint(split.merges):
            loader.loaded_hash = DROPPED


class _AtHand:
    """A merge that is made again and again: what it merges is moved to the device once, at its first use."""

    def __init__(self, merge: LoraMerge) -> None:
        self._merge = merge
        self._device: torch.device | None = None

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        if self._device != weight.device and _bytes(self._merge.patches) <= weight.nbytes * SMALL:
            # The host would copy it at every merge, and wait for that.
            self._merge = LoraMerge(_moved(self._merge.patches, weight.device), self._merge.key)
            self._device = weight.device
        return self._merge(weight)


def at_hand(merges: Mapping[str, Merge]) -> dict[str, Merge]:
    """The same merges, for weights that have them whenever they arrive."""
    return {key: _AtHand(merge) if isinstance(merge, LoraMerge) else merge for key, merge in merges.items()}


def _bytes(found: Any) -> int:
    if isinstance(found, torch.Tensor):
        return found.nbytes
    if type(found) in (list, tuple, dict):
        return sum(_bytes(each) for each in (found.values() if type(found) is dict else found))
    return 0


def _moved(found: Any, device: torch.device) -> Any:
    if isinstance(found, torch.Tensor):
        return found.to(device)
    if type(found) in (list, tuple):
        return type(found)(_moved(each, device) for each in found)
    return {key: _moved(each, device) for key, each in found.items()} if type(found) is dict else found
