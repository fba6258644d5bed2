"""Who may ask for what: the same rules for the tab and the API, decided from a request's headers. Pure.

A page of another site can send requests to this machine, and, once its name is made to lead here (DNS
rebinding), read the answers as well. What gives it away is what its browser cannot leave out: the name that
was asked for (Host), the page that asks (Origin), and how far apart they are (Sec-Fetch-Site).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ..hosts.common.inside import Forbidden
from ..hosts.common.names import Names

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?P<port>:[0-9]{1,5})?")
NEAR = ("same-origin", "none")
HOW = "FLUX_SPEEDUP_ALLOWED_HOSTS, or allowed_hosts in flux-speedup.json, lets it in"


class Rules:
    """names: what the server is called now; refused: why the WebUI lets nobody change it from outside, or None."""

    def __init__(self, names: Callable[[], Names], refused: Callable[[], str | None]) -> None:
        self._names = names
        self._refused = refused

    def may_read(self, headers: Mapping[str, str]) -> None:
        """Raises Forbidden."""
        names = self._names()
        host = _lower(headers, "host")
        _check_host(host, names)
        origin = _lower(headers, "origin")
        if origin and not _is_same(origin, host) and not names.may_ask_from(origin):
            raise Forbidden(f"a page of {_shown(origin)} may not ask for this")

    def may_write(self, headers: Mapping[str, str]) -> None:
        """Raises Forbidden."""
        self.may_read(headers)
        site, origin = _lower(headers, "sec-fetch-site"), _lower(headers, "origin")
        if site and site not in NEAR and not (origin and self._names().may_ask_from(origin)):
            raise Forbidden("a page of another site may not ask for this")
        why = self._refused()
        if why is not None:
            raise Forbidden(why)

    @staticmethod
    def must_be_json(headers: Mapping[str, str]) -> None:
        """A form of another site can send every other type without asking first. Raises Forbidden, as 415."""
        kind = _lower(headers, "content-type").partition(";")[0].strip()
        if kind != "application/json":
            raise Forbidden("the body must be JSON, with Content-Type: application/json", 415)


def _check_host(host: str, names: Names) -> None:
    found = _HOST.fullmatch(host)
    if found is None:
        raise Forbidden("the request names no host")
    name = found["name"].rstrip(".")
    if not names.has(name):
        raise Forbidden(f"{_shown(name)} is no name of this server that it knows of; {HOW}")


def _is_same(origin: str, host: str) -> bool:
    return origin.partition("://")[2] == host


def _lower(headers: Mapping[str, str], name: str) -> str:
    return str(headers.get(name) or "").strip().lower()


def _shown(text: str) -> str:
    return text[:100] if text.isprintable() else repr(text[:100])
