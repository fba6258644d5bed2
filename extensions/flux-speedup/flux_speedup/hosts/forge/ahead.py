"""Hashes off the path and the selected model read ahead, where a WebUI loads checkpoints as Forge does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...patching.change import Call, Change, Declined
from ...weights.files.gate import Gate
from ..common.webui import WebUI

if TYPE_CHECKING:
    from ...weights.files.file_digests import FileDigests
    from ...weights.packed.background import Background as Packing
    from ..common.placing import Placing
    from .hashes.changes import HashWait
    from .readahead import Background


class Ahead(WebUI):
    """A host that says what it loads, and by which function it computes a sha256."""

    hash_function = "calculate_sha256_real"
    reads_ahead_again = True

    def __init__(self) -> None:
        super().__init__()
        self._digests: FileDigests | None = None
        self._hash_wait: HashWait | None = None
        self._background: Background | None = None
        self._gate = Gate()
        self._packing: Packing | None = None
        self._placing: Placing | None = None

    def computing_device(self) -> Any:
        """The device images are computed on; PyTorch is in memory when it is asked for."""
        raise NotImplementedError

    def digest_changes(self) -> list[Change]:
        from ...storage.sidecar import Sidecar
        from ...weights.files.early_hashing import DIGESTS
        from ...weights.files.file_digests import FileDigests
        from . import digests as forge_digests

        if self._digests is None:
            folder = self.cache_folder()
            sidecar = Sidecar(folder / DIGESTS if folder else None)
            self._digests = FileDigests(sidecar, self._gate, early=folder)
        return forge_digests.changes(self._digests, self.hash_function)

    def hash_wait_changes(self, never: bool) -> list[Change]:
        if self._digests is None:
            return []
        self._hash_wait = self._waiting(self._digests, never)
        return self._hash_wait.changes()

    def _waiting(self, digests: FileDigests, never: bool) -> HashWait:
        from .hashes.changes import HashWait

        return HashWait(digests, never, self.computing_device)

    def lora_hash_wait_changes(self) -> list[Change]:
        return self._hash_wait.lora_changes() if self._hash_wait is not None else []

    def packed_changes(self, limit: int) -> list[Change]:
        folder = self.cache_folder()
        if folder is None or getattr(self.computing_device(), "type", "") != "cuda":
            raise Declined("it needs a CUDA device")
        from ...weights.packed.background import Background

        if self._packing is None:
            busy = lambda: self.inside().busy()  # noqa: E731 - asked anew each time
            self._packing = Background(folder / "packed", busy, self.computing_device)
        self._packing.room.limit = limit
        return [Call(self._packing.begin)]

    def packing(self) -> Packing | None:
        return self._packing

    def read_ahead_progress(self) -> tuple[int, int]:
        return self._background.progress() if self._background is not None else (0, 0)

    def read_ahead_changes(self) -> list[Change]:
        from .readahead import Background

        if self._background is None:
            prepare = self._placing.prepare if self._placing is not None else None
            self._background = Background(self._digests, self._gate, prepare)
        return self._background.changes(again=self.reads_ahead_again)
