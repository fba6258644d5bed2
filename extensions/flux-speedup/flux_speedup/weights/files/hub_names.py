"""Files whose name is their sha256: large files in the Hugging Face cache (models--*/blobs/<sha256>)."""

from __future__ import annotations

import os
import re
from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(r"(models|datasets|spaces)--.+")


def digest_in_name(file: Path | str) -> str | None:
    """The digest that the name of the file itself tells, links followed; None where it tells none.

    Smaller files there have a shorter name, of another kind.
    """
    real = Path(os.path.realpath(file))
    blobs = real.parent
    ours = blobs.name == "blobs" and _FOLDER.fullmatch(blobs.parent.name) is not None
    return real.name if ours and _SHA256.fullmatch(real.name) else None
