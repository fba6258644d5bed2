"""Files of Hugging Face: by their plain addresses, and in the cache of its own library, where that is installed."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from .catalog import Entry

ENDPOINT = "https://huggingface.co"


def endpoints(mirror: str | None) -> list[str]:
    """Whom to ask, in this order: the mirror of the command line, then HF_ENDPOINT or Hugging Face itself."""
    own = os.environ.get("HF_ENDPOINT") or ENDPOINT
    return list(dict.fromkeys(each.rstrip("/") for each in (mirror, own) if each))


def addresses(entry: Entry, mirror: str | None) -> Sequence[str]:
    """Every address the entry may be fetched from, best first.

    What nobody could tell from another file comes from the source alone: a mirror could send any program as a
    pickle.
    """
    direct = [entry.url] if entry.url else []
    if entry.repo is None:
        return direct
    path = f"{entry.repo}/resolve/main/{urllib.parse.quote(entry.repo_file or entry.file)}"
    asked = endpoints(mirror) if entry.verifiable else [ENDPOINT]
    return [f"{endpoint}/{path}" for endpoint in asked] + direct


def token_for(address: str) -> str | None:
    """The user's token (HF_TOKEN), for Hugging Face's own files and nobody else's."""
    return os.environ.get("HF_TOKEN") if address.startswith(f"{ENDPOINT}/") else None


def cached(repo: str, file: str) -> tuple[Path, str] | None:
    """(the cache folder, the file's path below it with forward slashes), or None.

    The library is looked for and not required; what it will not look for (it has rules for names) is not there.
    """
    try:
        from huggingface_hub import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
            constants,
            try_to_load_from_cache,
        )

        found = try_to_load_from_cache(repo, file)
    except Exception:
        return None
    if not isinstance(found, str):
        return None
    root = Path(getattr(constants, "HF_HUB_CACHE", None) or constants.HUGGINGFACE_HUB_CACHE)
    try:
        return root, Path(found).relative_to(root).as_posix()
    except ValueError:
        return None
