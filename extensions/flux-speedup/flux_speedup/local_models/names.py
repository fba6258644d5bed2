"""The names of kinds of weights, and which names may become paths: those that mean the same on every system."""

from __future__ import annotations

import re

ADETAILER, ESRGAN, REALESRGAN = "adetailer", "esrgan", "realesrgan"
FOLDERS = {ADETAILER: "adetailer", ESRGAN: "ESRGAN", REALESRGAN: "RealESRGAN"}
"""Where the WebUI looks for each kind below its models folder."""
SUFFIXES = (".pt", ".pth", ".safetensors")
MOST_CHARACTERS = 200
# Letters and digits of any script; no quotes, no control characters, nothing a shell would read.
_PLAIN = re.compile(r"[\w.+ ()\[\]@,=~!&%-]+")
# Names that Windows gives to devices, with any suffix.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?", re.IGNORECASE)


def why_not_a_file(name: object) -> str | None:
    """Why `name` is not the plain name of a weight file; None where it is one."""
    why = why_not_a_part(name)
    if why is None and not str(name).lower().endswith(SUFFIXES):
        return f"does not end in {', '.join(SUFFIXES)}"
    return why


def why_not_a_folder(path: object) -> str | None:
    """Why `path` is not a relative folder written with forward slashes; None where it is one."""
    if not isinstance(path, str) or not path:
        return "is no folder"
    return next((why for part in path.split("/") if (why := why_not_a_part(part)) is not None), None)


def why_not_a_part(part: object) -> str | None:
    """Why `part` cannot be one step of a path; None where it can."""
    if not isinstance(part, str) or not part:
        return "is empty, absolute or no text"
    if len(part) > MOST_CHARACTERS:
        return f"is longer than {MOST_CHARACTERS} characters"
    if ":" in part:
        return "is an address or has a drive letter"
    if "/" in part or "\\" in part:
        return "has separators of folders in it"
    if not _PLAIN.fullmatch(part):
        return "has characters in it that do not belong into a name"
    if part.strip(". ") == "" or part[-1] in ". " or part[0] == " ":
        return "is a dot, or begins or ends in a way that systems read differently"
    if _DEVICES.fullmatch(part):
        return "is the name of a device"
    return None
