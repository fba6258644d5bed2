"""What the configuration and the card together mean for the items, and what is armed before scripts are listed."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from flux_speedup.configuration.config import Config, Loaded, Source, load
from flux_speedup.features import memory as items_memory
from flux_speedup.features import scripts as items_scripts
from flux_speedup.hosts.common.webui import WebUI
from flux_speedup.memory import Card, MemoryPlan, Tier
from flux_speedup.patching.table import PatchTable, State
from flux_speedup.ram import HALF, NOTHING, PLENTY, Rule


class Host(WebUI):
    """A WebUI with this card; nothing of it is imported in this process."""

    def __init__(self, *, manager: bool, gpu: bool | None) -> None:
        super().__init__()
        self.has_tiers = manager
        self._gpu = gpu

    def card(self) -> Card:
        return Card("a card", is_gpu=self._gpu, total=None)


def armed(host: Host, tier: Tier, config: Config | None = None) -> dict[str, State]:
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    items_scripts.at_listing(table, host, MemoryPlan(tier, ""), config or Config())
    states = {outcome.item: outcome.state for outcome in table.outcomes()}
    table.put_back()
    return states


@pytest.mark.parametrize(
    ("manager", "gpu", "tier", "small"),
    [
        (True, True, Tier.LARGE, False),
        (True, True, Tier.STANDARD, True),
        (True, True, Tier.NONE, True),
        (True, False, Tier.NONE, False),
        (False, False, Tier.NONE, False),
        (False, None, Tier.NONE, True),
    ],
)
def test_the_rescue_of_a_small_card_stays_unless_the_card_is_known_not_to_need_it(
    manager: bool, gpu: bool | None, tier: Tier, small: bool
) -> None:
    host = Host(manager=manager, gpu=gpu)
    armed(host, tier)
    assert host.pruner()._small_card is small


def test_each_has_its_own_switch() -> None:
    host = Host(manager=False, gpu=False)
    for key in ("fast_callbacks", "lazy_apps", "pruning"):
        states = armed(host, Tier.NONE, replace(Config(), **{key: False}))
        assert [item for item, state in states.items() if state is State.SKIPPED] == [key]


def loaded(**given: object) -> Loaded:
    return load([Source("command line", given), Source("config.json", {"pruning": True})])


def test_a_webui_that_cannot_run_flux_keeps_its_scripts_unless_somebody_asks() -> None:
    for asked in ({}, {"keep": "loopback"}, {"group_batch": "keep"}):
        found = items_scripts.for_host(loaded(**asked), runs_flux=False)
        assert found.config.left_out == ()
        assert found.origin["left_out"] == "this WebUI cannot run Flux"
        assert armed(Host(manager=False, gpu=False), Tier.NONE, found.config)["pruning"] is State.SKIPPED
    for asked in ({"pruning": True}, {"left_out": "loopback"}):
        assert items_scripts.for_host(loaded(**asked), runs_flux=False) == loaded(**asked)
    assert items_scripts.for_host(loaded(), runs_flux=True) == loaded()


def test_a_group_that_somebody_leaves_out_is_left_out_there_too() -> None:
    found = items_scripts.for_host(loaded(group_batch="leave out"), runs_flux=False)
    states = armed(Host(manager=False, gpu=False), Tier.NONE, found.config)
    assert states["pruning"] is not State.SKIPPED


def test_the_configuration_says_what_is_left_out() -> None:
    wishes = items_scripts.wishes(replace(Config(), keep=("loopback",), group_batch="leave out"))
    assert len(wishes.left_out) == 36
    assert wishes.keep == ("loopback",)
    assert wishes.groups["group_batch"] == "leave out"
    assert len(wishes.groups) == 6


@pytest.mark.parametrize(
    ("asked", "rule"),
    [("auto", PLENTY), ("on", HALF), (True, HALF), ("off", NOTHING), (False, NOTHING)],
)
def test_how_much_ram_registered_files_may_take(asked: object, rule: Rule) -> None:
    loaded = load([Source("a file", {"direct": asked})])
    assert loaded.problems == ()
    assert items_memory.direct_rule(loaded.config) == rule


def test_by_default_files_are_registered_where_ram_is_plenty() -> None:
    assert Config().direct == "auto"
