"""What stays in RAM is pinned before the host does it, and the host's own pinning is as it was afterwards."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.forge.pinning import Pinning
from flux_speedup.weights.transfer.pinned import PinnedHomes
from tests.unit.weights.registering import PLENTY, Machine, ledger
from tests.unit.weights.weight_files import CARD, module_of


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def loaded() -> Any:
    """A model of which "there" is on the device already."""
    module = module_of({"there": torch.ones(100), "stays": torch.ones(200)}, {"too": torch.ones(300)})
    model = SimpleNamespace(model=module, offload_device=torch.device("cpu"))
    return SimpleNamespace(model=model, device=CARD)


def pinning(machine: Machine, total: int = PLENTY) -> Pinning:
    homes = PinnedHomes(registrar=machine.registrar, held=ledger(total))
    return Pinning(homes, kinds=frozenset({"cpu"}))


def load(made: Pinning, manager: Any, loaded: Any) -> bool:
    """As the host loads: it looks at the flag once ours has been there. Answers with what it saw."""
    with made.during_load(manager):
        made.others(manager, loaded, {"there"})
        return bool(manager.PIN_SHARED_MEMORY)


def test_what_is_not_on_the_device_is_pinned_and_the_host_finds_it_so(machine: Machine, loaded: Any) -> None:
    manager = SimpleNamespace(PIN_SHARED_MEMORY=True)
    assert load(pinning(machine), manager, loaded)
    module = loaded.model.model
    assert [machine.has(tensor) for tensor in (module.there, module.stays, module.too)] == [False, True, True]
    assert manager.PIN_SHARED_MEMORY


def test_where_there_is_no_room_for_all_the_host_pins_nothing_more(machine: Machine, loaded: Any) -> None:
    manager = SimpleNamespace(PIN_SHARED_MEMORY=True)
    assert not load(pinning(machine, total=2 * 832), manager, loaded)
    assert machine.has(loaded.model.model.stays)
    assert not machine.has(loaded.model.model.too)
    assert manager.PIN_SHARED_MEMORY  # for the next load


def test_a_load_that_fails_leaves_the_hosts_pinning_as_it_was(machine: Machine, loaded: Any) -> None:
    manager = SimpleNamespace(PIN_SHARED_MEMORY=True)
    made = pinning(machine, total=0)

    def failing() -> None:
        with made.during_load(manager):
            made.others(manager, loaded, {"there"})
            raise MemoryError

    with pytest.raises(MemoryError):
        failing()
    assert manager.PIN_SHARED_MEMORY


def test_what_cannot_be_registered_is_the_hosts_to_pin(loaded: Any, caplog: pytest.LogCaptureFixture) -> None:
    machine, manager = Machine(fail_at=0), SimpleNamespace(PIN_SHARED_MEMORY=True)
    assert load(pinning(machine), manager, loaded)
    assert "the WebUI pins each by itself" in caplog.text


@pytest.mark.parametrize("why", ["the host pins nothing", "another device", "it stays on the device"])
def test_where_the_host_pins_nothing_neither_do_we(machine: Machine, loaded: Any, why: str) -> None:
    manager = SimpleNamespace(PIN_SHARED_MEMORY=why != "the host pins nothing")
    if why == "another device":
        loaded.device = torch.device("meta")
    if why == "it stays on the device":
        loaded.model.offload_device = CARD
    before = manager.PIN_SHARED_MEMORY
    assert load(pinning(machine), manager, loaded) is before
    assert machine.calls == 0
