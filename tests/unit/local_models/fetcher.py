"""A server that misbehaves and a models folder, and what must be in place after a fetch."""

from __future__ import annotations

from pathlib import Path

from flux_speedup.local_models.catalog import Entry
from flux_speedup.local_models.digests import Digests
from flux_speedup.local_models.fetching import How, Result, Row, fetch
from flux_speedup.local_models.progress import Bar
from flux_speedup.local_models.transfer import Patience
from tests.unit.local_models.files import CONTENT, entry
from tests.unit.local_models.server import Act, File

PATIENCE = Patience(timeout=0.5, attempts=3, pause=0.01)


class Server:
    """Serves CONTENT at /face.pt and in a repository, and fetches it into a models folder."""

    def __init__(self, url: str, files: dict[str, File], models: Path) -> None:
        self.url = url
        self.models = models
        self.target = models / "adetailer" / "face.pt"
        self._files = files

    def behave(self, *acts: Act, content: bytes = CONTENT) -> File:
        self._files["/face.pt"] = File(content, list(acts))
        return self._files["/face.pt"]

    def repository(self, *acts: Act) -> File:
        self._files["/Bingsu/adetailer/resolve/main/face.pt"] = File(CONTENT, list(acts))
        return self._files["/Bingsu/adetailer/resolve/main/face.pt"]

    def entry(self, **fields: object) -> Entry:
        return entry(**{"repo": None, "repo_file": None, "url": f"{self.url}/face.pt", **fields})

    def fetch(self, wanted: Entry | None = None, **how: object) -> Row:
        given = How(self.models, Digests(None), patience=PATIENCE, **how)  # type: ignore[arg-type]
        return fetch(wanted or self.entry(), given, Bar("face.pt", 0, quiet=True))

    def left(self) -> list[str]:
        return sorted(path.name for path in (self.models / "adetailer").iterdir())


def assert_fetched(server: Server, row: Row) -> None:
    assert (row.result, row.size) == (Result.FETCHED, len(CONTENT)), row
    assert server.target.read_bytes() == CONTENT
    assert server.left() == ["face.pt"]


def assert_failed(server: Server, row: Row, *words: str) -> None:
    assert row.result is Result.FAILED, row
    assert all(word in row.why for word in words), row.why
    assert not server.target.exists()
