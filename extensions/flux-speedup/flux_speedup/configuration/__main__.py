"""`python -m flux_speedup.configuration`: write down the table of settings after it was changed."""

from __future__ import annotations

import json
from pathlib import Path

from .written import config_json, page


def main() -> None:
    """Rewrite `config.json`, and `docs/settings.md` where this is a clone of the repository."""
    extension = Path(__file__).resolve().parents[2]
    shipped, docs = extension / "config.json", extension.parents[1] / "docs" / "settings.md"
    shipped.write_text(config_json(json.loads(shipped.read_text(encoding="utf-8"))), encoding="utf-8")
    if docs.is_file():
        docs.write_text(page(docs.read_text(encoding="utf-8")), encoding="utf-8")


main()
