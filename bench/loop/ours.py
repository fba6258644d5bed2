"""The variants that have our changes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from measure.places import add_product

from .cases import GIB, Case
from .forge_backend import Forge


class Ours:
    """This extension's changes to Forge, through its patch table."""

    def __init__(self, forge: Forge, direct: bool) -> None:
        add_product()
        from flux_speedup.hosts.forge.webui import Forge as Host
        from flux_speedup.memory import Card, TierRules, plan
        from flux_speedup.patching.table import PatchTable

        self._table = PatchTable(logging.getLogger("flux_speedup"))
        self._host: Any = Host(forge.manager)
        self._forge = forge
        self._plan = lambda total: plan(Card("a card", True, total), TierRules(mode="large"))
        self._add("weights", self._host.weight_changes(0.5 if direct else 0.0))

    @contextmanager
    def case(self, case: Case) -> Iterator[None]:
        """With the large card's memory items, or with checkpoints kept, where the case has them."""
        added = []
        if case.plan:
            total = int(self._forge.manager.total_vram * (1 << 20))
            for item in self._host.memory_changes(self._plan(total)):
                self._add(item.key, item.changes)
                added.append(item.key)
        if case.steps:
            make = getattr(self._host, "checkpoint_changes", None)
            limits = (2, 8 * GIB)
            if make is not None:
                self._add("checkpoints", make(limits, lambda _event: None, lambda: frozenset({"weights"})))
                added.append("checkpoints")
        try:
            yield
        finally:
            self._table.put_back(added)

    def kept_ram(self) -> list[int]:
        """Bytes of RAM that each kept model has and no file stands behind."""
        keeper = self._host._keeper
        return [entry.ram for entry in keeper.kept.entries()] if keeper is not None else []

    def _add(self, key: str, changes: list[Any]) -> None:
        self._table.add(key, key, "", changes)
        outcome = next(each for each in self._table.outcomes() if each.item == key)
        if outcome.state.value != "applied" and "off already" not in outcome.why:
            raise SystemExit(f"{key}: {outcome.state.value} ({outcome.why})")
