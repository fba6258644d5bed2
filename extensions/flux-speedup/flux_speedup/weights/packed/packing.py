"""Makes the packed file of a weight file, a tensor at a time; goes on where an earlier try was cut off.

It counts once each tensor was read back, decoded, and compared with the weight file, which is never written.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ...storage.file_lock import locked
from ..errors import HeaderError, WeightsError
from ..files.header import TensorEntry, read_header
from ..files.identity import FileIdentity, identity
from .bound import Bound, Places
from .decoding import PLAIN, checksum, unpack
from .file import MAGIC, SMALL, Entry, Index, worth_packing, write_index
from .form import ALIGN, RAW, Bytes, Form, Map, encode
from .room import Room

LEAST = 0.1
"""The share of a file that packing must save."""


class NotPacked(WeightsError):
    """It cannot be packed, now or at all; nothing counts that did not before. `busy`: another process is at it."""

    def __init__(self, path: Path, reason: str, *, busy: bool = False) -> None:
        self.busy = busy
        super().__init__(path, reason)


class Packing:
    """One file. Not thread safe; `step` until it is done, then `close`, in any case."""

    def __init__(self, path: Path, room: Room, each: Map = map) -> None:
        """Raises NotPacked, OSError, HeaderError. `each`: as `map`, to work side by side."""
        self.path = path
        self.places = Places.of(path, room.folder)
        self._room = room
        self._each = each
        self._stack = ExitStack()
        self._entries: list[Entry | None] = []
        self._checked = 0
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            raise

    @property
    def progress(self) -> float:
        """0 to 1; the second half is reading back."""
        whole = 2 * sum(each.length for each in self._tensors) or 1
        done = sum(each.length for each in self._tensors[: len(self._entries)])
        return (done + sum(each.length for each in self._tensors[: self._checked])) / whole

    @property
    def size(self) -> int:
        """Bytes of the packed file by now."""
        return self._end

    def step(self) -> bool:
        """One tensor more; whether it is done. Raises NotPacked, OSError."""
        if not self.identity.is_still(self._source.fileno()):
            self.places.drop_part()
            raise self._not("the file was changed meanwhile")
        if len(self._entries) < len(self._tensors):
            self._write(self._tensors[len(self._entries)])
        elif self._checked < len(self._tensors):
            self._check(self._tensors[self._checked], self._entries[self._checked])
            self._checked += 1
        else:
            self._finish()
            return True
        return False

    def close(self) -> None:
        """What is there of it stays, to be gone on with."""
        self._stack.close()

    def _begin(self) -> None:
        self._source = self._stack.enter_context(self.path.open("rb", buffering=0))
        self.identity = FileIdentity.of(self._source.fileno(), self.path)
        header = read_header(self._source, self.identity.size, self.path)
        self._tensors = [each for each in header.tensors.values() if each.length]
        whole, saved = worth_packing(self._tensors)
        if saved < LEAST * whole:
            raise self._not("its weights would hardly get smaller")
        self._room.folder.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(locked(self.places.lock, self._busy))
        self._entries = self._resumed()
        kept = [entry for entry in self._entries if entry is not None]
        self._end = max((entry.offset + entry.form.length for entry in kept), default=len(MAGIC))
        if why := self._room.refuses(max(0, whole - saved - self._end), self.places):
            raise self._not(why)
        self._part = self._opened(self.places.part, "r+b" if self._entries else "w+b")
        self._part.truncate(self._end)
        if not self._entries:
            self._part.write(MAGIC)
            self.places.journal.write_text(Bound(self.path, self.identity).line() + "\n", encoding="utf-8")
        self._journal = self._opened(self.places.journal, "ab")

    def _opened(self, path: Path, how: str) -> BinaryIO:
        file: BinaryIO = path.open(how, buffering=0)  # type: ignore[assignment]
        return self._stack.enter_context(file)

    def _resumed(self) -> list[Entry | None]:
        """What an earlier try has written of the same file; reading back finds out whether it is right."""
        bound = Bound.read(self.places.journal)
        found: list[Entry | None] = []
        with suppress(OSError, ValueError):
            there = self.places.part.stat().st_size
            lines = self.places.journal.read_bytes().split(b"\n")
            for tensor, line in zip(self._tensors, lines[1:-1], strict=False):
                row = json.loads(line)
                entry = Entry.of(row) if row is not None else None
                if entry is not None:
                    where = entry.source, entry.size
                    if where != (tensor.offset, tensor.length) or entry.offset + entry.form.length > there:
                        break
                found.append(entry)
        return found if bound is not None and bound.identity == self.identity else []

    def _write(self, tensor: TensorEntry) -> None:
        raw = self._read(self._source, tensor.offset, tensor.length)
        form, packed = self._packed(raw, tensor.dtype) or (Form(0, RAW, tensor.length), raw)
        entry = None
        if form.escapes != RAW or tensor.length <= SMALL:
            offset = -(-self._end // ALIGN) * ALIGN
            if why := self._room.refuses(form.length, self.places):
                self.places.drop_part()
                raise self._not(why)
            self._part.seek(offset)
            left = memoryview(packed.data)
            while left:
                left = left[self._part.write(left) :]
            total = int(checksum(torch.from_numpy(packed)))
            entry = Entry(tensor.offset, tensor.length, offset, form, total)
            self._end = offset + form.length
        row = None if entry is None else entry.row()
        self._journal.write(json.dumps(row).encode() + b"\n")
        self._entries.append(entry)

    def _packed(self, raw: Bytes, dtype: torch.dtype) -> tuple[Form, Bytes] | None:
        # Small ones are not worth the work on the device.
        if dtype is not torch.bfloat16 or raw.size < SMALL // 16:
            return None
        return encode(raw.view(np.uint16), self._each)

    def _check(self, tensor: TensorEntry, entry: Entry | None) -> None:
        if entry is None:
            return
        there = self._read(self._part, entry.offset, entry.form.length)
        memory = torch.empty(entry.size, dtype=torch.uint8)
        memory[entry.size - entry.form.length :] = torch.from_numpy(there)
        damaged = bool(unpack(memory, entry.form, entry.checksum, PLAIN))
        wanted = self._read(self._source, tensor.offset, tensor.length)
        if damaged or not np.array_equal(memory.numpy(), wanted):
            self.places.drop_part()
            raise self._not(f"{tensor.name} came back with other bytes; it is made anew the next time")

    def _finish(self) -> None:
        entries = tuple(entry for entry in self._entries if entry is not None)
        write_index(self._part, Index(self.identity.size, self.identity.sample, entries))
        os.fsync(self._part.fileno())
        if identity(self.path) != self.identity:
            self.places.drop_part()
            raise self._not("another file has its name now")
        self._part.close()
        self._journal.close()
        self.places.bound.unlink(missing_ok=True)
        self.places.part.replace(self.places.whole)
        Bound(self.path, self.identity).write(self.places.bound)
        self.places.drop_part()

    def _read(self, file: BinaryIO, offset: int, length: int) -> Bytes:
        found = np.empty(length, np.uint8)
        left = memoryview(found.data)
        file.seek(offset)
        while left:
            count = file.readinto(left)  # type: ignore[attr-defined]
            if not count:
                raise HeaderError(self.path, "the file ended early")
            left = left[count:]
        return found

    def _busy(self) -> None:
        raise self._not("another process is packing it", busy=True)

    def _not(self, reason: str, *, busy: bool = False) -> NotPacked:
        return NotPacked(self.path, reason, busy=busy)
