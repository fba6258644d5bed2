"""Releases of ultralytics that carried somebody else's code (December 2024)."""

from __future__ import annotations

from importlib import metadata

BAD_RELEASES = ("8.3.41", "8.3.42", "8.3.45", "8.3.46")


def why_bad() -> str | None:
    """What is wrong with the installed ultralytics; None where nothing is known. Imports nothing of it."""
    try:
        version = metadata.version("ultralytics")
    except metadata.PackageNotFoundError:
        return None
    if version not in BAD_RELEASES:
        return None
    return (
        f"ultralytics {version} was published with a cryptocurrency miner in it; install another release, "
        "such as with pip install --upgrade ultralytics, and check this machine"
    )
