"""What the start has made is never looked through, unless a model is in it or it is put back."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator

import pytest
import torch

from flux_speedup.configuration.config import Config
from flux_speedup.features import garbage
from flux_speedup.features import moments as items
from flux_speedup.hosts.common.webui import WebUI
from flux_speedup.patching.change import Declined
from flux_speedup.patching.table import PatchTable, State
from flux_speedup.weights.residency.residency import STAGING

TITLE = ("garbage", "title", "why")


class Ring:
    """Refers to itself, so that only the collector lets it go."""

    def __init__(self, tensor: torch.Tensor | None = None) -> None:
        self.itself, self.tensor = self, tensor


@pytest.fixture
def table() -> Iterator[PatchTable]:
    gc.collect()
    made = PatchTable(logging.getLogger("flux_speedup.test"))
    yield made
    made.put_back()
    gc.collect()


def state(table: PatchTable) -> State:
    return {each.item: each.state for each in table.outcomes()}["garbage"]


def test_put_back_the_old_page_is_collected(table: PatchTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "MOST", 1 << 40)  # whatever other tests have made
    page = Ring()
    gone = weakref.ref(page)
    table.add(*TITLE, garbage.changes(False))
    assert state(table) is State.APPLIED
    assert gc.get_freeze_count() > 0
    del page
    gc.collect()
    assert gone() is not None  # not looked through
    table.put_back()
    gc.collect()
    assert gone() is None


def test_a_model_that_is_there_is_collected_once_it_is_dropped(
    table: PatchTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "MOST", garbage._parameters() + 1000)
    model = Ring(torch.nn.Parameter(torch.zeros(1001, dtype=torch.uint8), requires_grad=False))
    gone = weakref.ref(model)
    table.add(*TITLE, garbage.changes(False))
    assert state(table) is State.SKIPPED
    del model
    gc.collect()
    assert gone() is None


def test_what_a_start_uses_of_tensors_is_no_model() -> None:
    before = garbage._parameters()
    kept = [torch.zeros(1 << 20), torch.nn.Linear(8, 8).weight.data]
    with STAGING.slots(pinned=False) as slots:
        assert slots
        assert garbage._parameters() == before
    STAGING.release()
    del kept


def test_where_a_model_may_be_under_way_it_is_not_done(table: PatchTable) -> None:
    with pytest.raises(Declined):
        garbage.changes(True)
    items.apply_when_started(table, WebUI(), Config())
    assert state(table) is State.SKIPPED
