"""Whether one file may be used as a weight of the catalog, and why not. Only regular files are opened."""

from __future__ import annotations

import os
import stat as modes
from dataclasses import dataclass, replace
from pathlib import Path

from .catalog import Entry
from .digests import Digests
from .names import SUFFIXES, why_not_a_folder

HEAD_BYTES = 1024
_LFS = b"version https://git-lfs"
_HTML = (b"<!doctype html", b"<html", b"<head", b"<?xml")
# On Windows files open as text unless told otherwise; elsewhere a FIFO must not block whoever opens it.
_OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True)
class Usable:
    """A file that may be used. `sure`: its sha256 is the catalog's, or nothing is known that it could miss.

    `why` is a warning where there is something to say.
    """

    path: Path
    size: int
    sure: bool
    why: str = ""


@dataclass(frozen=True)
class Refused:
    """A file that is there and is not used."""

    path: Path
    why: str


Verdict = Usable | Refused | None


def examine(
    root: Path, relative: str, entry: Entry, digests: Digests, *, hashing: bool = True, suffix: bool = True
) -> Verdict:
    """Judge the file `relative` (with forward slashes) below the folder `root`; None where there is none.

    A link that leads out of the folder is followed where size and sha256 of the file are known, to be proven.
    `hashing` off looks at everything but a digest that was never computed; `suffix` off takes any
    name. Never raises, never blocks.
    """
    why = why_not_a_folder(relative)
    if why is not None:
        return Refused(root, f"{relative!r} {why}")
    path = root / relative
    if suffix and not relative.lower().endswith(SUFFIXES):
        return Refused(path, f"does not end in {', '.join(SUFFIXES)}")
    try:
        why = _why_not_there(root, path, entry)
        if why is not None:
            return Refused(path, why)
        if _is_outside(root, path):
            entry = replace(entry, confirmed=True)  # anything may be there: only what is proven to be it
        descriptor = os.open(path, _OPEN)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return Refused(path, f"it cannot be read ({error})")
    try:
        return _judge(path, descriptor, entry, digests, hashing)
    except OSError as error:
        return Refused(path, f"it cannot be read ({error})")
    finally:
        os.close(descriptor)


def _why_not_there(root: Path, path: Path, entry: Entry) -> str | None:
    """Raises FileNotFoundError where nothing is there."""
    real = os.path.realpath(path)
    if not modes.S_ISREG(os.stat(real).st_mode):  # noqa: PTH116 - the path as it was resolved, once
        return "it is not a regular file"
    if _is_outside(root, path) and (entry.bytes is None or entry.sha256 is None):
        return f"it is a link that leads out of its folder, to {real}; make its folder the catalog's"
    return None


def _is_outside(root: Path, path: Path) -> bool:
    inside = os.path.realpath(root)
    try:
        return os.path.commonpath([os.path.realpath(path), inside]) != inside
    except ValueError:
        return True  # on another drive


def _judge(path: Path, descriptor: int, entry: Entry, digests: Digests, hashing: bool) -> Verdict:
    stat = os.fstat(descriptor)
    if not modes.S_ISREG(stat.st_mode):
        return Refused(path, "it is not a regular file")
    why = why_no_weights(os.read(descriptor, HEAD_BYTES))
    if why is not None:
        return Refused(path, why)
    if entry.sha256 is None and entry.bytes is None:
        return Usable(path, stat.st_size, sure=True)
    if entry.bytes is not None and stat.st_size != entry.bytes:
        return _differs(path, stat.st_size, entry, f"it has {stat.st_size} bytes, not {entry.bytes}")
    if entry.sha256 is None:
        return Usable(path, stat.st_size, sure=True)
    found = digests.of(path, descriptor) if hashing else digests.known(path, descriptor)
    if found is None:
        return Usable(path, stat.st_size, sure=False, why="its sha256 is checked when it is used")
    if found != entry.sha256:
        return _differs(path, stat.st_size, entry, f"its sha256 is {found}, not {entry.sha256}")
    return Usable(path, stat.st_size, sure=True)


def _differs(path: Path, size: int, entry: Entry, why: str) -> Verdict:
    if entry.confirmed:
        return Refused(path, why)
    return Usable(path, size, sure=False, why=f"{why}, which only one source states; it is used all the same")


def why_no_weights(head: bytes) -> str | None:
    """Why a file that begins with `head` holds no weights; None where it may.

    Weights are binary (zip, pickle, or a safetensors length), so text of any kind is a page or a pointer.
    """
    if not head:
        return "it is empty"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(_LFS):
        return "it is a Git LFS pointer, not the file itself"
    if start[:16].lower().startswith(_HTML):
        return "it is a web page, as servers send instead of a file"
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        return "it is text, not weights"
    return None
