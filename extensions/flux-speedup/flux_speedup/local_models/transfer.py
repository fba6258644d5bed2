"""One address into one part file over HTTP: resumed where it stopped, tried again where that may help."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK = 1 << 16
AGENT = "flux-speedup-fetch"
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_MAY_PASS = {408, 425, 429, 500, 502, 503, 504}


class TransferFailed(Exception):
    """The file did not come; the message says why. `again`: another attempt may help."""

    def __init__(self, why: str, *, again: bool = False, after: float = 0.0) -> None:
        self.again = again
        self.after = after
        super().__init__(why)


@dataclass(frozen=True)
class Patience:
    """How long and how often.

    timeout: seconds without a byte. attempts: at an address. pause: seconds before the second one, then doubled.
    whole: seconds that a file may take, with all attempts at all addresses. least: bytes a second, over `window`
    seconds; whoever sends fewer is not waited for.
    """

    timeout: float = 30.0
    attempts: int = 5
    pause: float = 1.0
    longest_pause: float = 30.0
    whole: float = 3600.0
    least: float = 10_000.0
    window: float = 20.0


@dataclass(frozen=True)
class Address:
    """Where a file is; `token`: for this server alone, and nobody it sends us on to."""

    url: str
    token: str | None = None


Progress = Callable[[int, "int | None"], None]
"""(bytes there now, bytes in all where known)."""


def transfer(
    source: Address,
    part: Path,
    expected: int | None,
    patience: Patience,
    progress: Progress,
    until: float,
) -> None:
    """Bring a file into `part`, going on from what is there. On return all that the server announced is in it.

    until: on the monotonic clock; then it ends.

    Raises:
        TransferFailed: with what came so far left in `part`.
        OSError: the part file cannot be written.
    """
    pause = patience.pause
    for attempt in range(1, patience.attempts + 1):
        before = _size(part)
        try:
            _attempt(source, part, expected, patience, progress, until)
        except TransferFailed as failed:
            late = time.monotonic() >= until
            if not failed.again or attempt == patience.attempts or late:
                tries = f" ({attempt} attempts)" if attempt > 1 else ""
                raise TransferFailed(f"{failed}{tries}") from failed
            # Whoever brings new bytes each time is slow, not broken.
            pause = patience.pause if _size(part) > before else min(pause * 2, patience.longest_pause)
            wait = min(max(pause, failed.after), patience.longest_pause)
            time.sleep(max(0.0, min(wait, until - time.monotonic())))
        else:
            return


def _attempt(
    source: Address,
    part: Path,
    expected: int | None,
    patience: Patience,
    progress: Progress,
    until: float,
) -> None:
    have, validator = _size(part), _read_validator(part)
    request = urllib.request.Request(source.url, headers={"User-Agent": AGENT, "Accept-Encoding": "identity"})
    if source.token:
        request.add_unredirected_header("Authorization", f"Bearer {source.token}")
    if have and (validator or expected):
        request.add_header("Range", f"bytes={have}-")
        if validator:
            request.add_header("If-Range", validator)
    try:
        with _opened(request, patience.timeout, until) as answer:
            start, total = _where(answer, have)
            pace = Pace(patience, until)

            def came(at: int, whole: int | None) -> None:
                pace.at(at)
                progress(at, whole)

            _write(answer, part, start, total, expected, came)
    except urllib.error.HTTPError as error:
        with error:
            _refused(error, part, have)
    except TransferFailed:
        raise
    except (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise TransferFailed(_words(error), again=True) from error


def _opened(request: urllib.request.Request, timeout: float, until: float) -> Any:
    """The answer, once its head is there. A head that comes byte by byte is not waited for.

    `timeout` is each wait's alone, so somebody else waits for all of them.
    """
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    given_up = threading.Event()

    def ask() -> None:
        try:
            answer = _opener().open(request, timeout=timeout)
        except BaseException as error:
            done.put(error)
            return
        done.put(answer)
        if given_up.is_set():
            answer.close()

    threading.Thread(target=ask, name="flux-speedup-fetch-head", daemon=True).start()
    try:
        found = done.get(timeout=max(0.0, min(3 * timeout, until - time.monotonic())))
    except queue.Empty:
        given_up.set()
        raise TransferFailed("the server does not answer in time", again=True) from None
    if isinstance(found, BaseException):
        raise found
    return found


class Pace:
    """Raises TransferFailed where bytes come too slowly, or for too long."""

    def __init__(self, patience: Patience, until: float) -> None:
        self._patience = patience
        self._until = until
        self._since = time.monotonic()
        self._before: int | None = None

    def at(self, size: int) -> None:
        """So many bytes are there now."""
        now = time.monotonic()
        if now >= self._until:
            raise TransferFailed(f"it takes longer than {self._patience.whole:.0f} s in all")
        if self._before is None:
            self._before = size
        if now - self._since < self._patience.window:
            return
        rate = (size - self._before) / (now - self._since)
        if rate < self._patience.least:
            raise TransferFailed(
                f"it comes at {rate / 1e3:.1f} kB/s, less than {self._patience.least / 1e3:g}", again=True
            )
        self._since, self._before = now, size


def _refused(error: urllib.error.HTTPError, part: Path, have: int) -> None:
    """Returns where the part file turns out to be complete."""
    if error.code == 416:
        if (error.headers.get("Content-Range") or "") == f"bytes */{have}":
            return
        drop(part)
        raise TransferFailed("what was there does not fit the server's file", again=True) from error
    after = error.headers.get("Retry-After") or ""
    raise TransferFailed(
        f"the server answered {error.code} {error.reason}",
        again=error.code in _MAY_PASS,
        after=float(after) if after.isdecimal() else 0.0,
    ) from error


def _where(answer: Any, have: int) -> tuple[int, int | None]:
    """(offset that the body begins at, bytes of the whole file where they are told)."""
    encoding = (answer.headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise TransferFailed(f"the server sent it encoded ({encoding[:40]}), which it was not asked for")
    length = answer.headers.get("Content-Length")
    told = int(length) if length and length.isdecimal() else None
    if answer.status != 206:
        return 0, told
    found = _RANGE.fullmatch(answer.headers.get("Content-Range") or "")
    if found is None or int(found.group(1)) != have:
        raise TransferFailed("the server sent another range than it was asked for")
    return have, None if found.group(2) == "*" else int(found.group(2))


def _write(
    answer: Any, part: Path, start: int, total: int | None, expected: int | None, progress: Progress
) -> None:
    if expected is not None and total is not None and total != expected:
        raise TransferFailed(f"the server offers {total} bytes, not {expected}")
    if start == 0:
        drop(part)
        _keep_validator(part, answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
    at, whole = start, total if total is not None else expected
    with part.open("ab") as file:
        while piece := answer.read1(CHUNK):
            at += len(piece)
            if whole is not None and at > whole:
                raise TransferFailed(f"the server sends more than {whole} bytes")
            file.write(piece)
            progress(at, whole)
        file.flush()
        os.fsync(file.fileno())
    if whole is not None and at < whole:
        raise TransferFailed(f"the connection ended after {at} of {whole} bytes", again=True)


def drop(part: Path) -> None:
    """Forget what was fetched so far."""
    for path in (part, _beside(part)):
        with suppress(FileNotFoundError):
            path.unlink()


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except OSError:
        return 0


def _beside(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _keep_validator(part: Path, etag: str | None, modified: str | None) -> None:
    # A weak ETag does not promise the same bytes.
    strong = etag if etag and not etag.startswith("W/") else None
    if strong or modified:
        _beside(part).write_text(json.dumps({"validator": strong or modified}), encoding="utf-8")


def _read_validator(part: Path) -> str | None:
    try:
        found = json.loads(_beside(part).read_text(encoding="utf-8"))["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) and found.isprintable() else None


class _Careful(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://" if req.type == "https" else ("http://", "https://")):
            raise TransferFailed(f"the server sent us on to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    # Proxies come from the environment (http_proxy, https_proxy, no_proxy), as everywhere in Python.
    return urllib.request.build_opener(_Careful())


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{type(error).__name__}: {reason}" if str(reason) else type(error).__name__
