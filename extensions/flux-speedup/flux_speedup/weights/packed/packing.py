"""Makes the packed file of a weight file, a tensor at a time; goes on where an earlier try was cut off.

It counts once each tensor was read back, decoded, and compared with the weight file, which is never written. One
that is whole, and was compared under another name or mode, is compared again, and stays as it is.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ...storage import whole_file
from ...storage.file_lock import locked
from ..errors import HeaderError, WeightsError
from ..files.header import TensorEntry, read_header
from ..files.identity import FileIdentity, identity
from .bound import Bound, Places
from .decoding import PLAIN, checksum, unpack
from .file import MAGIC, SMALL, Entry, packs, read_index, write, write_index
from .form import ALIGN, Bytes, Form, Map, encode
from .room import Room, busy

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


class NotPacked(WeightsError):
    """It cannot be packed, now or at all; nothing counts that did not before."""


class Packing:
    """One file. Not thread safe; `step` until it is done, then `close`, in any case."""

    def __init__(self, path: Path, room: Room, each: Map = map) -> None:
        """Raises NotPacked, HeaderError, OSError; BlockingIOError where another process is at it.

        `each`: as `map`, to work side by side.
        """
        self.path = path
        self._room = room
        self._each = each
        self._stack = ExitStack()
        self._compared = 0
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            raise

    @property
    def done(self) -> int:
        """Bytes of the weight file's tensors that were compared with their packed form."""
        return sum(each.length for each in self._tensors[: self._compared])

    def step(self) -> bool:
        """One tensor more; whether it is done. Raises NotPacked, OSError."""
        try:
            return self._step()
        except OSError as error:
            if error.errno in _FULL and not self.is_whole:
                self._drop()
            raise

    def close(self) -> None:
        """What is there of it stays, to be gone on with."""
        self._stack.close()

    def _begin(self) -> None:
        self._open()
        self.places = Places.of(self.identity, self._room.folder)
        header = read_header(self._source, self.identity.size, self.path)
        self._tensors = [each for each in header.tensors.values() if each.length]
        found = packs(self._tensors)
        if found is None:
            raise NotPacked(self.path, "its weights would hardly get smaller")
        self._room.folder.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(locked(self.places.lock, busy))
        self._entries = self._in_whole()
        self.is_whole = bool(self._entries)
        self._entries = self._entries or self._known(self._in_part())
        self.size = max((entry.end for entry in self._entries if entry is not None), default=len(MAGIC))
        if self.is_whole:
            self._part = self._opened(self.places.whole, "rb")
            return
        if why := self._room.refuses(max(0, found[1] - self.size), self.places):
            raise NotPacked(self.path, why)
        self._part = self._opened(self.places.part, "r+b" if self._entries else "w+b")
        self._part.truncate(self.size)
        write(self._part, MAGIC)
        self._journal = self._opened(self.places.journal, "wb")
        lines = [Bound(self.path, self.identity).line(), *(json.dumps(e.row()) for e in self._entries if e)]
        write(self._journal, "".join(f"{line}\n" for line in lines).encode())

    def _open(self) -> None:
        self._source = self._opened(self.path, "rb")
        self.identity = FileIdentity.of(self._source.fileno(), self.path)

    def _opened(self, path: Path, how: str) -> BinaryIO:
        file: BinaryIO = path.open(how, buffering=0)  # type: ignore[assignment]
        return self._stack.enter_context(file)

    def _in_whole(self) -> list[Entry | None]:
        """What a packed file of such content has, for each tensor; nothing where there is none that can be read."""
        whole = self.places.whole
        if not whole.exists():
            return []
        with suppress(OSError, HeaderError), whole.open("rb") as file:
            found = self._known(read_index(file, os.fstat(file.fileno()).st_size, whole))
            if found:
                return found + [None] * (len(self._tensors) - len(found))
        self._room.drop(self.places, "it is damaged")
        return []

    def _in_part(self) -> dict[int, Entry]:
        """What an earlier try has written; comparing finds out whether it is right."""
        found: dict[int, Entry] = {}
        with suppress(OSError, ValueError, TypeError, RecursionError):
            there = self.places.part.stat().st_size
            for line in self.places.journal.read_bytes().split(b"\n")[1:-1]:
                entry = Entry.of(json.loads(line))
                if entry.end > there:
                    break
                found[entry.source] = entry
        return found

    def _known(self, there: dict[int, Entry]) -> list[Entry | None]:
        """For each tensor up to the last one that has an entry; nothing where they are of other tensors."""
        found = [there.pop(tensor.offset, None) for tensor in self._tensors]
        while found and found[-1] is None:
            found.pop()
        fit = all(e is None or e.form.size == t.length for t, e in zip(self._tensors, found, strict=False))
        return found if fit and not there else []

    def _step(self) -> bool:
        if not self.identity.is_still(self._source.fileno()):
            raise self._gives_up("the file was changed meanwhile")
        if self._compared == len(self._tensors):
            return self._finish()
        tensor = self._tensors[self._compared]
        raw = self._read(self._source, tensor.offset, tensor.length)
        if self._compared == len(self._entries):
            self._entries.append(self._written(tensor, raw))
        entry = self._entries[self._compared]
        if entry is not None and not self._is_right(entry, raw):
            raise self._gives_up(f"{tensor.name} came back with other bytes; it is made anew the next time")
        self._compared += 1
        return False

    def _written(self, tensor: TensorEntry, raw: Bytes) -> Entry | None:
        # Small ones are not worth the work on the device.
        gains = tensor.dtype is torch.bfloat16 and raw.size >= SMALL // 16
        made = encode(raw.view(np.uint16), self._each) if gains else None
        if made is None and raw.size > SMALL:
            return None
        form, packed = made or (Form(raw.size), raw)
        if why := self._room.refuses(form.length, self.places):
            raise self._gives_up(why)
        offset = -(-self.size // ALIGN) * ALIGN
        self._part.seek(offset)
        write(self._part, packed.data)
        entry = Entry(tensor.offset, offset, form, int(checksum(torch.from_numpy(packed))))
        write(self._journal, f"{json.dumps(entry.row())}\n".encode())
        self.size = entry.end
        return entry

    def _is_right(self, entry: Entry, raw: Bytes) -> bool:
        there = self._read(self._part, entry.offset, entry.form.length)
        memory = torch.empty(entry.form.size, dtype=torch.uint8)
        memory[entry.form.size - entry.form.length :] = torch.from_numpy(there)
        right = int(unpack(memory, entry.form, PLAIN)) == entry.checksum
        return right and np.array_equal(memory.numpy(), raw)

    def _finish(self) -> bool:
        now = identity(self.path)
        if now is None or not self.places.fit(now):
            raise NotPacked(self.path, "the file is gone, or another one has its name")
        if now != self.identity:  # another mode, say, since when a write would not show
            self._open()
            self._compared = 0
            return False
        if not self.is_whole:
            write_index(self._part, self.places.name, (entry for entry in self._entries if entry is not None))
            os.fsync(self._part.fileno())
            self._part.close()
            self.places.bound.unlink(missing_ok=True)
            self.places.part.replace(self.places.whole)
        whole_file.write(self.places.bound, Bound(self.path, self.identity).line())
        self._drop(whole=False)
        return True

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

    def _gives_up(self, reason: str) -> NotPacked:
        """Nothing of it stays."""
        self._drop(whole=self.is_whole)
        return NotPacked(self.path, reason)

    def _drop(self, *, whole: bool = False) -> None:
        for file in (self._part,) if self.is_whole else (self._part, self._journal):
            file.close()  # Windows deletes nothing that is open
        if whole:
            self._room.drop(self.places, "its file has other weights")
        else:
            self.places.drop(whole=False)
