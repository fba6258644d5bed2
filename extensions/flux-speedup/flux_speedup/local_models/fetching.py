"""One weight from its source into its folder: checked, and put in place as a whole or not at all."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ..storage.file_lock import locked
from . import hub
from .catalog import Entry
from .digests import Digests
from .examine import HEAD_BYTES, Refused, Usable, examine, why_no_weights
from .part import TransferFailed, drop
from .progress import Bar
from .transfer import Address, Patience, transfer

NOT_VERIFIED = "not verified: its size and sha256 are not known for sure"


class Result(str, Enum):
    """What became of one weight."""

    PRESENT = "present"
    FETCHED = "fetched"
    MISSING = "missing"
    FAILED = "failed"


@dataclass(frozen=True)
class Row:
    """One line of the table at the end."""

    entry: Entry
    result: Result
    why: str = ""
    size: int = 0

    @property
    def good(self) -> bool:
        return self.result in (Result.PRESENT, Result.FETCHED)


@dataclass(frozen=True)
class How:
    """What all weights of one run share. `models`: the folder that holds the entries' folders."""

    models: Path
    digests: Digests
    mirror: str | None = None
    patience: Patience = field(default_factory=Patience)


def verify(entry: Entry, how: How) -> Row:
    """What is there, with its sha256 computed where one is known. No network."""
    verdict = _look(entry, how)
    if isinstance(verdict, Usable):
        return _present(entry, verdict)
    if isinstance(verdict, Refused):
        return Row(entry, Result.FAILED, verdict.why)
    return Row(entry, Result.MISSING)


def _present(entry: Entry, found: Usable) -> Row:
    return Row(entry, Result.PRESENT, found.why or _unverified(entry), found.size)


def _unverified(entry: Entry) -> str:
    return "" if entry.verifiable else NOT_VERIFIED


def fetch(entry: Entry, how: How, bar: Bar) -> Row:
    """Bring the weight, unless it is there. Never raises but for KeyboardInterrupt."""
    folder = how.models / entry.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f".{entry.file}.lock", lambda: bar.say("another process fetches it, waiting")):
            # Looked at with the lock held: the process we waited for may have brought it.
            verdict = _look(entry, how)
            if isinstance(verdict, Usable):
                return _present(entry, verdict)
            if isinstance(verdict, Refused) and not _worthless(folder / entry.file, entry):
                return Row(entry, Result.FAILED, f"another file is there: {verdict.why}; move it away first")
            return _bring(entry, how, folder, bar)
    except (OSError, TransferFailed) as error:
        return Row(entry, Result.FAILED, str(error))


def _look(entry: Entry, how: How) -> Usable | Refused | None:
    return examine(how.models / entry.folder, entry.file, entry, how.digests)


def _worthless(path: Path, entry: Entry) -> bool:
    """What is there are the remains of a download, or a page instead of a file: nobody loses anything."""
    if not path.is_file() or path.is_symlink():
        return False
    size = path.stat().st_size
    with path.open("rb") as file:
        page = why_no_weights(file.read(HEAD_BYTES)) is not None
    return page or (entry.bytes is not None and entry.confirmed and size < entry.bytes)


def _bring(entry: Entry, how: How, folder: Path, bar: Bar) -> Row:
    part = folder / f".{entry.file}.part"
    resumed = part.exists()
    _transfer(entry, how, part, bar)
    why = _why_wrong(part, entry, how)
    if why is not None and resumed:
        # Half a file of another version may have been there: once more, from the beginning.
        drop(part)
        _transfer(entry, how, part, bar)
        why = _why_wrong(part, entry, how)
    if why is not None:
        drop(part)
        raise TransferFailed(f"what came is not the file: {why}")
    return _put_in_place(entry, part, folder / entry.file, how)


def _transfer(entry: Entry, how: How, part: Path, bar: Bar) -> None:
    """From the first address that has it, all of them together in the time that a file may take."""
    until = time.monotonic() + how.patience.whole
    expected = entry.bytes if entry.confirmed else None
    failures: list[str] = []
    for address in hub.addresses(entry, how.mirror):
        source = Address(address, hub.token_for(address))
        try:
            transfer(source, part, expected, how.patience, bar.at, until)
        except TransferFailed as failed:
            failures.append(f"{address}: {failed}")
        else:
            return
    raise TransferFailed("; ".join(failures) or "the catalog has no source for it")


def _why_wrong(part: Path, entry: Entry, how: How) -> str | None:
    # Judged under the name it will have, as the part's own says nothing.
    verdict = examine(part.parent, part.name, entry, how.digests, suffix=False)
    if isinstance(verdict, Usable):
        return None
    return verdict.why if verdict is not None else "nothing came"


def _put_in_place(entry: Entry, part: Path, target: Path, how: How) -> Row:
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, target)  # noqa: PTH105 - the one call that is atomic everywhere
    drop(part)
    _sync_folder(target.parent)
    verdict = _look(entry, how)
    warning = verdict.why if isinstance(verdict, Usable) else ""
    warning = warning or _unverified(entry)
    return Row(entry, Result.FETCHED, warning, target.stat().st_size)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
