"""Files of Hugging Face: through huggingface_hub where that is installed, else by their plain address."""

from __future__ import annotations

import os
import shutil
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from .catalog import Entry
from .transfer import TransferFailed

ENDPOINT = "https://huggingface.co"


def endpoints(mirror: str | None) -> list[str]:
    """Whom to ask, in this order: the mirror of the command line, then HF_ENDPOINT or Hugging Face itself."""
    own = os.environ.get("HF_ENDPOINT") or ENDPOINT
    return list(dict.fromkeys(each.rstrip("/") for each in (mirror, own) if each))


def addresses(entry: Entry, mirror: str | None) -> Sequence[str]:
    """Every address the entry may be fetched from, best first."""
    if entry.repo is None:
        return [entry.url] if entry.url else []
    path = f"{entry.repo}/resolve/main/{urllib.parse.quote(entry.repo_file or entry.file)}"
    return [f"{endpoint}/{path}" for endpoint in endpoints(mirror)] + ([entry.url] if entry.url else [])


def has_library() -> bool:
    """Whether huggingface_hub can be imported."""
    try:
        import huggingface_hub  # type: ignore[import-untyped,import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        return False
    return True


def adopt(part: Path) -> None:
    """Take over what a killed run of the library left, as its newer releases begin anew each time."""
    folder = _folder(part)
    left = sorted(folder.rglob("*.incomplete"), key=lambda path: path.stat().st_size)
    if left and not part.exists():
        os.replace(left[-1], part)  # noqa: PTH105 - the one call that is atomic everywhere
    shutil.rmtree(folder, ignore_errors=True)


def _folder(part: Path) -> Path:
    return part.with_name(part.name + ".hub")


def bring(entry: Entry, part: Path, endpoint: str, timeout: float) -> None:
    """Fetch the entry with the library and put it at `part`.

    Raises:
        TransferFailed: it did not come; what came so far stays in a folder beside `part`, see `adopt`.
    """
    from huggingface_hub import hf_hub_download

    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", str(max(1, int(timeout))))
    folder = _folder(part)
    try:
        found = hf_hub_download(
            entry.repo,
            entry.repo_file or entry.file,
            local_dir=folder,
            endpoint=endpoint,
            etag_timeout=timeout,
        )
        os.replace(found, part)  # noqa: PTH105 - the one call that is atomic everywhere
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise TransferFailed(f"{type(error).__name__}: {why[:300]}") from error
    shutil.rmtree(folder, ignore_errors=True)
