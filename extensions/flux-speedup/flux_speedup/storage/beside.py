"""The name of a file of this process beside another file."""

from __future__ import annotations

import os
from pathlib import Path


def beside(path: Path, ending: str) -> Path:
    """In the same folder, with the begin of the same name.

    A name has 255 bytes at most, and a character up to four: so there is one however long that of `path` is.
    """
    return path.with_name(f"{path.name[:50]}.{os.getpid()}.{ending}")
