"""Hashes off the path and the selected model read ahead, where a WebUI loads checkpoints as A1111 does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...patching.change import Change, Declined
from ..forge.ahead import Ahead

if TYPE_CHECKING:
    from ...weights.files.file_digests import FileDigests
    from ..forge.hashes.changes import HashWait


class Chosen(Ahead):
    """A host that loads a checkpoint as soon as it is chosen, by `load_model` and `reload_model_weights`."""

    hash_function = "calculate_sha256"
    reads_ahead_again = False

    def _waiting(self, digests: FileDigests, never: bool) -> HashWait:
        from ..forge.hashes.changes import HashWait
        from .hashes import RELOADS, ChosenCheckpoints

        return HashWait(digests, never, self.computing_device, RELOADS, ChosenCheckpoints)

    def lora_hash_wait_changes(self) -> list[Change]:
        raise Declined("left to the WebUI: here it is not the file's sha256, but that of its tensors alone")
