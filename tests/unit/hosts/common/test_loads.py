"""One event for each checkpoint that was really loaded, whichever function of the WebUI did it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.common.loads import CheckpointLoads
from flux_speedup.patching.table import PatchTable
from flux_speedup.stats.events import Event


class Model(torch.nn.Module):
    """A built checkpoint; `lifted` stands for its weights being on a card."""

    def __init__(self, info: Any) -> None:
        super().__init__()
        self.sd_checkpoint_info = info
        self.lifted = True

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        device = SimpleNamespace(type="cuda" if self.lifted else "cpu")
        yield SimpleNamespace(nelement=lambda: 5, element_size=lambda: 2, device=device)


def webui(limit: int) -> Any:
    """`modules.sd_models` as A1111 has it: one model that is loaded into, and as many kept as the limit says."""
    models: Any = ModuleType("modules.sd_models")
    models.model_data = SimpleNamespace(sd_model=None, loaded_sd_models=[])
    data = models.model_data

    def get_checkpoint_state_dict(info: Any) -> Any:
        if not Path(info.filename).exists():
            raise FileNotFoundError(info.filename)
        return {}

    def load_model(info: Any, state: Any = None) -> Any:
        if state is None:
            models.get_checkpoint_state_dict(info)
        data.sd_model = Model(info)
        data.loaded_sd_models.insert(0, data.sd_model)
        return data.sd_model

    def send_model_to_device(model: Any) -> None:
        model.lifted = True

    def send_model_to_cpu(model: Any) -> None:
        model.lifted = False

    def reload_model_weights(info: Any) -> Any:
        current = data.sd_model
        if current is not None and current.sd_checkpoint_info.filename == info.filename:
            return current
        if current is None:
            return models.load_model(info, models.get_checkpoint_state_dict(info))
        models.send_model_to_cpu(current)
        for kept in data.loaded_sd_models:
            if kept.sd_checkpoint_info.filename == info.filename:
                models.send_model_to_device(kept)
                data.sd_model = kept
                return kept
        if len(data.loaded_sd_models) < limit:
            return models.load_model(info)
        models.get_checkpoint_state_dict(info)
        current.sd_checkpoint_info = info
        current.lifted = True
        return current

    vars(models).update(
        get_checkpoint_state_dict=get_checkpoint_state_dict,
        load_model=load_model,
        reload_model_weights=reload_model_weights,
        send_model_to_device=send_model_to_device,
        send_model_to_cpu=send_model_to_cpu,
    )
    return models


@pytest.fixture
def infos(tmp_path: Path) -> list[Any]:
    found = []
    for name, size in (("a.safetensors", 10), ("b.safetensors", 20)):
        (tmp_path / name).write_bytes(b"x" * size)
        found.append(SimpleNamespace(filename=str(tmp_path / name)))
    return found


def watched(monkeypatch: pytest.MonkeyPatch, models: Any) -> tuple[list[Event], PatchTable]:
    monkeypatch.setitem(sys.modules, "modules.sd_models", models)
    seen: list[Event] = []
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    table.add("statistics", "Load times", "", CheckpointLoads(seen.append).changes())
    return seen, table


def told(seen: list[Event]) -> list[tuple[str, str, int]]:
    found = [(event.kind, event.what, event.bytes) for event in seen]
    seen.clear()
    return found


def test_a_load_within_a_load_is_one_and_none_where_nothing_was_to_do(
    monkeypatch: pytest.MonkeyPatch, infos: list[Any]
) -> None:
    models, (a, b) = webui(limit=1), infos
    seen, table = watched(monkeypatch, models)
    models.reload_model_weights(a)
    assert told(seen) == [("checkpoint", "a.safetensors", 10)]
    models.reload_model_weights(a)
    assert told(seen) == []
    # Into the same model: what moved meanwhile belongs to it.
    models.reload_model_weights(b)
    assert told(seen) == [("checkpoint", "b.safetensors", 20)]
    table.put_back()
    models.reload_model_weights(a)
    assert told(seen) == []


def test_a_model_that_was_still_in_ram_moves_and_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, infos: list[Any]
) -> None:
    models, (a, b) = webui(limit=2), infos
    seen, _ = watched(monkeypatch, models)
    models.load_model(a)
    models.reload_model_weights(b)
    assert told(seen) == [("checkpoint", "a.safetensors", 10), ("checkpoint", "b.safetensors", 20)]
    models.reload_model_weights(a)
    assert told(seen) == [("unload", "b.safetensors", 10), ("move", "a.safetensors", 10)]
    models.send_model_to_cpu(models.model_data.sd_model)
    assert told(seen) == [("unload", "a.safetensors", 10)]


def test_a_load_that_fails_is_none_and_the_next_one_counts(
    monkeypatch: pytest.MonkeyPatch, infos: list[Any]
) -> None:
    models = webui(limit=1)
    seen, _ = watched(monkeypatch, models)
    with pytest.raises(FileNotFoundError):
        models.load_model(SimpleNamespace(filename="gone"))
    assert told(seen) == []
    models.load_model(infos[0])
    assert told(seen) == [("checkpoint", "a.safetensors", 10)]


def test_an_early_return_of_load_model_is_none(monkeypatch: pytest.MonkeyPatch, infos: list[Any]) -> None:
    # As reForge has it: no function of its own for reloading, and every kept model may become the one in use.
    models = webui(limit=2)
    build = models.load_model

    def load_model(info: Any = None, state: Any = None, forced_reload: bool = False) -> Any:
        for kept in models.model_data.loaded_sd_models:
            if kept.sd_checkpoint_info is info:
                models.model_data.sd_model = kept
                return kept
        return build(info, state)

    models.load_model = load_model
    for name in ("reload_model_weights", "send_model_to_cpu", "send_model_to_device"):
        delattr(models, name)
    seen, _ = watched(monkeypatch, models)
    for info in (infos[0], infos[1], infos[0], infos[1], infos[0]):
        models.load_model(info)
    assert told(seen) == [("checkpoint", "a.safetensors", 10), ("checkpoint", "b.safetensors", 20)]
    # Weights that somebody else read are a new model all the same.
    models.load_model(SimpleNamespace(filename="merged"), {})
    assert told(seen) == [("checkpoint", "merged", 0)]
