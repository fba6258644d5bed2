"""Answers ADetailer's and the WebUI's requests for weights with local files, where there are any."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..configuration.config import Source
from .catalog import Catalog, Entry, load
from .digests import Digests
from .hub import cached
from .names import ADETAILER
from .report import LocalWeight, WeightState
from .resolve import Found, Places, Resolver

log = logging.getLogger("flux_speedup")
Original = Callable[..., Any]
BINGSU = "Bingsu/adetailer"
"""The repository ADetailer means where it names none."""


class LocalModels:
    """One for the life of a process. The wrapped functions are called from any thread, several at once."""

    def __init__(self, catalog: Catalog, resolver: Resolver) -> None:
        self.catalog = catalog
        self._resolver = resolver
        self._lock = threading.Lock()
        self._asked: dict[str, LocalWeight] = {}
        self._said: set[str] = set()

    # What the host's functions become.

    def hf_download(self, original: Original, *args: Any, **named: Any) -> Any:
        """For `adetailer.common.hf_download(file, repo_id, check_remote)`.

        With `check_remote` off the user has turned Hugging Face off for ADetailer, which lists folders in
        another order then: that stays.
        """
        entry = self._asked_of_hub(*args, **named)
        ask = partial(original, *args, **named)
        return ask() if entry is None else self._answer(entry, (), ask)

    def load_file_from_url(self, original: Original, *args: Any, **named: Any) -> Any:
        """For the WebUI's `load_file_from_url(url, *, model_dir, file_name, hash_prefix, re_download, ...)`."""
        entry = self._asked_of_url(*args, **named)
        ask = partial(original, *args, **named)
        folder = named.get("model_dir")
        extra = [Path(os.path.abspath(folder))] if folder else []  # noqa: PTH100 - as the WebUI does
        return ask() if entry is None else self._answer(entry, extra, ask)

    def _asked_of_hub(
        self, file: Any = None, repo_id: Any = BINGSU, check_remote: Any = True, **_: Any
    ) -> Entry | None:
        return self.catalog.by_hub(repo_id, file) if check_remote is True else None

    def _asked_of_url(self, *args: Any, **named: Any) -> Entry | None:
        """The entry that a call asks for; None where the call wants something of its own."""
        url = named.get("url", args[0] if args else None)
        if len(args) > 1 or named.get("re_download") or not isinstance(url, str):
            return None
        name = named.get("file_name") or url.split("?", 1)[0].split("#", 1)[0].rsplit("/", 1)[-1]
        entry = self.catalog.by_url(url, str(name))
        prefix = str(named.get("hash_prefix") or "").strip().lower()
        if entry is not None and prefix and not (entry.sha256 or "").startswith(prefix):
            return None
        return entry

    def _answer(self, entry: Entry, extra: Sequence[Path], ask: Callable[[], Any]) -> Any:
        try:
            found = self._resolver.find(entry, extra)
        except Exception:
            log.warning(
                "%s: local files cannot be looked at; downloaded as before", entry.file, exc_info=True
            )
            return ask()
        self._say_refused(entry, found)
        if found.usable is not None:
            self._keep(entry, _row(entry, WeightState.REDIRECTED, found))
            return str(found.usable.path)
        answer = ask()
        there = isinstance(answer, (str, os.PathLike)) and Path(answer).is_file()
        if there:
            self._keep(entry, _downloaded(entry, Path(answer), found))
        else:
            self._keep(entry, _row(entry, _absent(found), found))
        return answer

    # What others may ask.

    def path_of(self, entry: Entry) -> Path | None:
        """The local file for an entry that a host asks for on its own account; it counts as redirected."""
        found = self._resolver.find(entry)
        self._say_refused(entry, found)
        if found.usable is None:
            return None
        self._keep(entry, _row(entry, WeightState.REDIRECTED, found))
        return found.usable.path

    def report(self) -> tuple[LocalWeight, ...]:
        """Every weight of the catalog as it stands now. Computes no digest; looks at folders."""
        with self._lock:
            asked = dict(self._asked)
        return tuple(asked.get(entry.file) or self._unasked(entry) for entry in self.catalog.entries)

    def _unasked(self, entry: Entry) -> LocalWeight:
        found = self._resolver.find(entry, hashing=False)
        return _row(entry, WeightState.FOUND if found.usable else _absent(found), found)

    def _keep(self, entry: Entry, row: LocalWeight) -> None:
        with self._lock:
            before, self._asked[entry.file] = self._asked.get(entry.file), row
        # ADetailer asks for six at once, and the summary at the end of the start names them.
        quiet = row.kind == ADETAILER and row.state in (WeightState.REDIRECTED, WeightState.MISSING)
        if before != row and not quiet:
            log.info("%s: %s%s", row.name, row.state.value, f", {row.path}" if row.path else "")

    def _say_refused(self, entry: Entry, found: Found) -> None:
        for refused in found.refused:
            self._say(f"{refused.path}: not used for {entry.file}, {refused.why}")
        if found.usable is not None and found.usable.why:
            self._say(f"{found.usable.path}: {found.usable.why}")

    def _say(self, sentence: str) -> None:
        with self._lock:
            if sentence in self._said:
                return
            self._said.add(sentence)
        log.warning("%s", sentence)


def made(sources: Iterable[Source], places: Places, kept: Path | None) -> LocalModels:
    """From the configuration's sources; `places` are the WebUI's folders, `kept` the file for digests."""
    catalog = load(sources)
    return LocalModels(catalog, Resolver(catalog, places, Digests(kept), cached))


def _row(entry: Entry, state: WeightState, found: Found) -> LocalWeight:
    if found.usable is not None:
        usable = found.usable
        return LocalWeight(entry.file, entry.kind, state, str(usable.path), usable.size, usable.why)
    return LocalWeight(entry.file, entry.kind, state, why=_reasons(found))


def _downloaded(entry: Entry, path: Path, found: Found) -> LocalWeight:
    why = _reasons(found)
    return LocalWeight(entry.file, entry.kind, WeightState.DOWNLOADED, str(path), path.stat().st_size, why)


def _absent(found: Found) -> WeightState:
    return WeightState.REFUSED if found.refused else WeightState.MISSING


def _reasons(found: Found) -> str:
    return "; ".join(f"{refused.path}: {refused.why}" for refused in found.refused)
