"""The Hugging Face cache, as its own library knows it."""

from __future__ import annotations

from pathlib import Path


def cached(repo: str, file: str) -> tuple[Path, str] | None:
    """(the cache folder, the file's path below it with forward slashes), or None.

    The library is looked for and not required.
    """
    try:
        from huggingface_hub import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
            constants,
            try_to_load_from_cache,
        )
    except ImportError:
        return None
    found = try_to_load_from_cache(repo, file)
    if not isinstance(found, str):
        return None
    root = Path(getattr(constants, "HF_HUB_CACHE", None) or constants.HUGGINGFACE_HUB_CACHE)
    try:
        return root, Path(found).relative_to(root).as_posix()
    except ValueError:
        return None
