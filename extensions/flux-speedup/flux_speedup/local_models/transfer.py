"""One address into one part file over HTTP: resumed where it stopped, tried again where that may help."""

from __future__ import annotations

import http.client
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import part as parts
from .part import Progress, TransferFailed

AGENT = "flux-speedup-fetch"
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_MAY_PASS = {408, 425, 429, 500, 502, 503, 504}


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
        before = parts.size(part)
        try:
            _attempt(source, part, expected, patience, progress, until)
        except TransferFailed as failed:
            late = time.monotonic() >= until
            if not failed.again or attempt == patience.attempts or late:
                tries = f" ({attempt} attempts)" if attempt > 1 else ""
                raise TransferFailed(f"{failed}{tries}") from failed
            # Whoever brings new bytes each time is slow, not broken.
            pause = patience.pause if parts.size(part) > before else min(pause * 2, patience.longest_pause)
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
    have, validator = parts.size(part), parts.validator(part)
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

            parts.write(answer, part, start, total, expected, came)
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
        parts.drop(part)
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
