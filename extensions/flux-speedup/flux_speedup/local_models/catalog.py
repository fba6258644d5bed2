"""The catalog: which small weights there are, where they come from, and what is known of them.

It is the key `catalog` of the configuration files. Only files count: options can be set over the API, and
nothing that becomes a path may come from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..configuration.config import Problems, Source, cut
from .names import FOLDERS, why_not_a_file, why_not_a_folder

KEY = "catalog"
NO_FILES = ("command line", "environment", "settings")
MOST_ENTRIES = 1000
_KNOWN_KEYS = {"file", "kind", "folder", "repo", "repo_file", "url", "bytes", "sha256", "confirmed"}
_KIND = re.compile(r"[a-z0-9_-]{1,40}")
_REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_URL = re.compile(r"https?://[^\s\"'<>\\]{1,1000}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One weight file. `folder` is below the models folder; `bytes` and `sha256` where they are known.

    `confirmed`: several sources state the sha256, so that a file that differs is refused; else it is a warning.
    """

    file: str
    kind: str
    folder: str
    repo: str | None = None
    repo_file: str | None = None
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    confirmed: bool = True

    @property
    def verifiable(self) -> bool:
        """Whether a file can be told from every other one."""
        return self.bytes is not None and self.sha256 is not None and self.confirmed

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        return f"{self.repo}/{self.repo_file}" if self.repo else self.url or "no source"


@dataclass(frozen=True)
class Catalog:
    """All weights in the order of the files, the folder of one's own for them, and what was wrong on the way."""

    entries: tuple[Entry, ...] = ()
    folder: Path | None = None
    problems: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.kind == kind)

    def by_hub(self, repo: str, file: str) -> Entry | None:
        """The entry of a file in a Hugging Face repository."""
        return next((e for e in self.entries if (e.repo, e.repo_file) == (repo, file)), None)

    def by_url(self, url: str, file: str) -> Entry | None:
        """The entry with this address, else the one with this file name."""
        by_address = next((e for e in self.entries if e.url is not None and e.url == url), None)
        return by_address or next((e for e in self.entries if e.file == file), None)


class _BadEntry(ValueError):
    """`key` of an entry does not fit; the message says what is allowed."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        self.sentence = f"{key} = {cut(value)} {allowed}"
        super().__init__(self.sentence)


def load(sources: Iterable[Source]) -> Catalog:
    """Every file's entries, the strongest file's where two have the same file name. Never raises."""
    entries: dict[str, Entry] = {}
    problems = Problems()
    folder: Path | None = None
    for source in reversed([s for s in sources if s.name not in NO_FILES]):
        section = source.values.get(KEY)
        if section is None:
            continue
        if not isinstance(section, dict):
            problems.add(source.name, str, f"{KEY} is not an object with folder and weights; it is ignored")
            continue
        for key in section.keys() - {"folder", "weights"}:
            problems.add(source.name, str, f"unknown key {KEY}.{cut(key)}; it is ignored")
        folder = _folder(source.name, section.get("folder"), problems) or folder
        weights = section.get("weights", [])
        if not isinstance(weights, list) or len(weights) > MOST_ENTRIES:
            problems.add(source.name, str, f"{KEY}.weights is not a list of at most {MOST_ENTRIES}; ignored")
            continue
        for number, row in enumerate(weights):
            try:
                found = _entry(row)
            except _BadEntry as bad:
                where = f"{KEY}.weights[{number}]"
                problems.add(source.name, str, f"{where}: {bad.sentence}; the entry is ignored")
                continue
            entries[found.file] = found
    return Catalog(tuple(entries.values()), folder, problems.sentences())


def _folder(source: str, value: object, problems: Problems) -> Path | None:
    if value is None:
        return None
    sentence = f"{KEY}.folder = {cut(value)} is not the path of a local folder; it is ignored"
    if not isinstance(value, str) or not value.isprintable() or value.startswith(("\\\\", "//")):
        problems.add(source, str, sentence)
        return None
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        problems.add(source, str, sentence)
        return None
    if not path.is_absolute():
        told = sentence.replace("is not the path of a local folder", "is not an absolute path")
        problems.add(source, str, told)
        return None
    return path


def _entry(row: object) -> Entry:
    if not isinstance(row, dict):
        raise _BadEntry("entry", row, "is not an object")
    for key in row.keys() - _KNOWN_KEYS:
        raise _BadEntry(cut(str(key)), row[key], "is an unknown key")
    file, kind = row.get("file"), row.get("kind")
    if (why := why_not_a_file(file)) is not None:
        raise _BadEntry("file", file, why)
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise _BadEntry("kind", kind, "is not a word such as adetailer, esrgan, realesrgan")
    folder = row.get("folder") or FOLDERS.get(kind, kind)
    if (why := why_not_a_folder(folder)) is not None:
        raise _BadEntry("folder", folder, why)
    return _with_facts(_with_source(Entry(str(file), kind, str(folder)), row), row)


def _with_source(entry: Entry, row: Mapping[str, object]) -> Entry:
    repo, url = row.get("repo"), row.get("url")
    inside = row.get("repo_file") or entry.file
    if repo is not None and not (isinstance(repo, str) and _REPO.fullmatch(repo) and ".." not in repo):
        raise _BadEntry("repo", repo, "is not a Hugging Face repository, owner/name")
    if repo is not None and (why := why_not_a_folder(inside)) is not None:
        raise _BadEntry("repo_file", inside, why)
    if url is not None and not (isinstance(url, str) and _URL.fullmatch(url)):
        raise _BadEntry("url", url, "is not an http or https address")
    return replace(entry, repo=repo, repo_file=str(inside) if repo else None, url=url)


def _with_facts(entry: Entry, row: Mapping[str, object]) -> Entry:
    size, sha256, confirmed = row.get("bytes"), row.get("sha256"), row.get("confirmed", True)
    if size is not None and (type(size) is not int or size <= 0):
        raise _BadEntry("bytes", size, "is not a number of bytes")
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256.lower())):
        raise _BadEntry("sha256", sha256, "is not 64 hexadecimal digits")
    if not isinstance(confirmed, bool):
        raise _BadEntry("confirmed", confirmed, "is not true or false")
    assert size is None or isinstance(size, int)
    return replace(entry, bytes=size, sha256=sha256.lower() if sha256 else None, confirmed=confirmed)
