"""What was added to the WebUI's own list of disabled extensions, remembered exactly, so that it can be undone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..storage import json_file, whole_file

FILE = "disabled_extensions.json"


class Remembered:
    """The names that our button added, in a file of ours. Raises OSError where it cannot be written."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / FILE if folder else None

    def names(self) -> tuple[str, ...]:
        """In the order in which they were added; a file that cannot be read holds none."""
        if self._path is None:
            return ()
        try:
            added = json_file.read(self._path).get("added")
        except (OSError, ValueError):
            return ()
        return tuple(n for n in added if isinstance(n, str)) if isinstance(added, list) else ()

    def write(self, names: Sequence[str]) -> None:
        """Keep these names, or remove the file where there are none."""
        if self._path is None:
            raise OSError("this WebUI has no data folder to remember them in")
        if not names:
            self._path.unlink(missing_ok=True)
            return
        whole_file.write(self._path, json.dumps({"added": list(names)}, indent=1))
