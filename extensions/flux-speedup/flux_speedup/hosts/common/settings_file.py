"""What the WebUI writes into its settings file while ours is in force: whole, and nothing of ours.

`Options.save` truncates the file and writes all of `opts.data` into it: a process that ends meanwhile leaves
half a file, with which no WebUI starts, and every value that a change of ours has set is kept for good. Here it
writes into a file beside, which then takes the other's place; and it is given the values that the user had.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ...configuration.config import AS_CONFIGURED
from ...configuration.sources import OPTION_PREFIX
from ...patching.change import Change, Function

OPTIONS = "modules.options"
SAVE = "Options.save"
SUFFIX = ".flux-speedup-part"
STALE_S = 60.0
MISSING = object()
# A file that is written into because it is mounted, or another's, cannot be put in the place of.
_IN_PLACE = {errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTSUP, errno.EINVAL}
_lock = threading.Lock()


def changes() -> list[Change]:
    """Every save: whole, and without those of our options that are as they came."""
    return [Function(OPTIONS, SAVE, _wrap_save, guarded=False)]


def keep_out(opts: Any, key: str, ours: object, before: object) -> Function:
    """While option `key` still has our value, saves of `opts` write `before`; MISSING: nothing."""
    kind = type(opts)
    return Function(kind.__module__, f"{kind.__qualname__}.save", partial(_wrap_kept_out, key, ours, before))


def _wrap_kept_out(
    key: str, ours: object, before: object, original: Callable[..., Any]
) -> Callable[..., Any]:
    def save(opts: Any, *args: Any, **kwargs: Any) -> Any:
        data = dict(opts.data)
        if key in data and data[key] == ours:
            data.pop(key)
            if before is not MISSING:
                data[key] = before
        return original(_with_data(opts, data), *args, **kwargs)

    return save


def _wrap_save(original: Callable[..., Any]) -> Callable[..., Any]:
    def save(opts: Any, filename: Any, *args: Any, **kwargs: Any) -> Any:
        data = {key: value for key, value in dict(opts.data).items() if not _is_untouched(key, value)}
        written = _with_data(opts, data)
        with _lock:
            return _whole(lambda path: original(written, path, *args, **kwargs), str(filename))

    return save


def _is_untouched(key: str, value: object) -> bool:
    return key.startswith(OPTION_PREFIX) and value == AS_CONFIGURED


def _with_data(opts: Any, data: Mapping[str, object]) -> Any:
    """Options like these with other values; nobody else sees them, so that nobody reads a value for a moment."""
    other = object.__new__(type(opts))
    vars(other).update(vars(opts), data=data)
    return other


def _whole(write: Callable[[str], Any], filename: str) -> Any:
    """Let `write` make the file beside its place, and put it there; in its place where that is not possible.

    Raises whatever `write` raises; the file is as it was then.
    """
    target = Path(os.path.realpath(filename))  # a link stays a link
    # Two containers that share a folder may both be process 1.
    part = target.with_name(f"{target.name}.{secrets.token_hex(8)}{SUFFIX}")
    _remove_stale(target)
    try:
        if not _is_replaceable(target):
            return write(filename)
        answer = write(str(part))
        try:
            if target.exists():
                part.chmod(target.stat().st_mode & 0o7777)
            os.replace(part, target)  # noqa: PTH105 - the one call that is atomic everywhere
        except OSError as error:
            if error.errno not in _IN_PLACE:
                raise
            return write(filename)
        return answer
    finally:
        with suppress(OSError):
            part.unlink()


def _is_replaceable(target: Path) -> bool:
    """Whether a new file may stand here: this folder takes one, and the old one is ours alone."""
    if not os.access(target.parent, os.W_OK):
        return False
    try:
        found = target.stat()
    except FileNotFoundError:
        return True
    owner = getattr(os, "geteuid", lambda: found.st_uid)()
    return found.st_uid == owner and found.st_nlink == 1 and os.access(target, os.W_OK)


def _remove_stale(target: Path) -> None:
    """What a process left that ended while it wrote."""
    with suppress(OSError):
        for left in target.parent.glob(f"{glob.escape(target.name)}.*{SUFFIX}"):
            if time.time() - left.stat().st_mtime > STALE_S:
                left.unlink()
