"""Makes the packed file of a weight file, a tensor at a time; goes on where an earlier try was cut off.

It counts once each tensor was read back, decoded, and compared with the weight file, which is never written. One
that is whole, and was compared under another name or mode, is compared again, and stays as it is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ...storage.file_lock import locked
from ..errors import WeightsError
from ..files.header import TensorEntry, read_header
from ..files.identity import FileIdentity
from .encoding import Bytes, Map, checksum, comes_back, encode
from .form import ABSENT, ALIGN, RAW, Form
from .index import Entry, Index, lock_of, packed_of, size_of
from .progress import FileProgress
from .room import Room, busy
from .worth import packs

SMALL = 1 << 20
"""Bytes: what is smaller is there, whether it gains or not, so that one file is read, from begin to end."""
_PIECE = 8 << 20
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


class NotPacked(WeightsError):
    """It cannot be packed, now or at all; nothing of its packed file stays."""


def packing(path: Path, room: Room, each: Map = map) -> Generator[FileProgress, None, None]:
    """How far it is, after each tensor; at the end, and at once where the packed file counts already, "packed".

    Not thread safe. Who closes it earlier leaves what there is to be gone on with. In between neither file is open
    and no tensor held. `each`: as `map`, to work side by side. Raises NotPacked, HeaderError, OSError, MemoryError;
    BlockingIOError where another process is at it.
    """
    with path.open("rb") as source:
        now = FileIdentity.of(source.fileno(), path)
        tensors = [tensor for tensor in read_header(source, now.size, path).tensors.values() if tensor.length]
    about = packs(tensors)
    if about is None:
        raise NotPacked(path, "its weights would hardly get smaller")
    packed = packed_of(now, room.folder)
    room.folder.mkdir(parents=True, exist_ok=True)
    with locked(lock_of(packed), busy), _useless_goes(room, packed):
        if Index.counting(packed, now) is not None:
            yield FileProgress(path.name, now.size, now.size, "packed")
            return
        entries, whole = _begun(path, now, tensors, about[1], room, packed)
        compared = 0
        while True:
            with path.open("rb") as source, packed.open("rb" if whole else "r+b") as file:
                before, now = now, FileIdentity.of(source.fileno(), path)
                if packed_of(now, room.folder) != packed:
                    raise NotPacked(path, "the file was changed meanwhile")
                if now != before:
                    compared = 0  # another mode, say, since when a write would not show
                if compared == len(tensors):
                    if not whole:
                        os.fsync(file.fileno())
                    break
                tensor = tensors[compared]
                raw, content = _read(source, tensor.offset, _memory(tensor.length), each), None
                if compared == len(entries):
                    form, content = _made(tensor, raw, each)
                    if why := room.refuses(form.length, packed):
                        raise NotPacked(path, why)
                    entries.append(_written(file, tensor, form, content, each))
                    # Somebody reads it (Windows): the next one has this entry too.
                    with suppress(PermissionError):
                        Index(path, now, tuple(entries)).write(packed)
                if not _is_right(file, entries[compared], raw, each, content):
                    reason = f"{tensor.name} came back with other bytes; it is made anew the next time"
                    raise NotPacked(path, reason)
            del raw, content  # an image may be made now
            compared += 1
            done = sum(tensor.length for tensor in tensors[:compared])
            yield FileProgress(path.name, now.size, done, "comparing" if whole else "packing")
        Index(path, now, tuple(entries), whole=True).write(packed)
        yield FileProgress(path.name, now.size, now.size, "packed")


@contextmanager
def _useless_goes(room: Room, packed: Path) -> Iterator[None]:
    try:
        yield
    except (NotPacked, OSError) as error:
        if isinstance(error, NotPacked) or error.errno in _FULL:
            room.drop(packed, str(error))
        raise


def _begun(
    path: Path, now: FileIdentity, tensors: Sequence[TensorEntry], about: int, room: Room, packed: Path
) -> tuple[list[Entry], bool]:
    """What an earlier try has left, which comparing finds out to be right or not, and whether that is all.

    `about`: bytes that the packed file will have.
    """
    index, there = Index.read(packed), size_of(packed)
    pairs = list(zip(index.entries, tensors, strict=False)) if index is not None else []
    fit = all((entry.source, entry.size) == (tensor.offset, tensor.length) for entry, tensor in pairs)
    entries = [entry for entry, _ in pairs if fit and entry.end <= there]
    size = entries[-1].end if entries else 0
    if index is not None and index.whole and len(entries) == len(tensors) and size == there:
        return entries, True
    if why := room.refuses(max(0, about - size), packed):
        raise NotPacked(path, why)
    if not entries:
        room.drop(packed, "nothing in it can be gone on with")
    Index(path, now, tuple(entries)).write(packed)
    with packed.open("r+b" if entries else "xb") as file:
        file.truncate(size)
    return entries, False


def _made(tensor: TensorEntry, raw: Bytes, each: Map) -> tuple[Form, Bytes]:
    # Small ones are not worth the work on the device.
    gains = tensor.dtype is torch.bfloat16 and raw.size >= SMALL // 16
    if gains and (made := encode(raw.view(np.uint16), each)) is not None:
        return made
    return (Form(raw.size, RAW), raw) if raw.size <= SMALL else (Form(raw.size, ABSENT), raw[:0])


def _written(file: BinaryIO, tensor: TensorEntry, form: Form, content: Bytes, each: Map) -> Entry:
    offset = file.seek(0, os.SEEK_END)
    offset = file.seek(-offset % ALIGN if form.length else 0, os.SEEK_END)
    file.write(content.data)
    file.flush()
    return Entry(tensor.offset, form.size, offset, form.escapes, checksum(content, each))


def _is_right(file: BinaryIO, entry: Entry, raw: Bytes, each: Map, content: Bytes | None) -> bool:
    """`content`: memory that was written from, if anything was, and may be read into: fresh one takes longer."""
    form = entry.form
    memory = _memory(form.length) if content is None or form.escapes == RAW else content
    packed = _read(file, entry.offset, memory, each)
    if form.escapes == ABSENT or checksum(packed, each) != entry.checksum:
        return form.escapes == ABSENT
    if form.escapes == RAW:
        return np.array_equal(packed, raw)
    return comes_back(form, packed, raw.view(np.uint16), each)


def _memory(size: int) -> Bytes:
    return np.empty(size, np.uint8)


def _read(file: BinaryIO, offset: int, into: Bytes, each: Map) -> Bytes:
    def part(at: int) -> bool:
        view = into[at : at + _PIECE].data
        while len(view) and (count := os.preadv(file.fileno(), [view], offset + at)):
            view, at = view[count:], at + count
        return not len(view)

    if hasattr(os, "preadv"):
        whole = all(each(part, range(0, into.size, _PIECE)))
    else:
        file.seek(offset)
        whole = file.readinto(into.data) == into.size  # type: ignore[attr-defined]
    if not whole:
        raise NotPacked(file.name, "the file ended early")
    return into
