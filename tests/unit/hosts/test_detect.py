"""Which host a process is, by what is in its memory."""

from __future__ import annotations

import enum
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup import hosts
from flux_speedup.configuration.setting import EVERYWHERE
from flux_speedup.configuration.settings import SETTINGS
from flux_speedup.hosts.a1111.webui import A1111
from flux_speedup.hosts.common.webui import WebUI
from flux_speedup.hosts.forge.webui import Forge
from flux_speedup.hosts.neo.webui import Neo
from flux_speedup.hosts.reforge.webui import ReForge
from flux_speedup.patching.change import Declined
from flux_speedup.ram import NOTHING
from flux_speedup.ui.settings import OPTIONS

FORGE, REFORGE, LAUNCH = (
    "backend.memory_management",
    "ldm_patched.modules.model_management",
    "modules.launch_utils",
)


class State(enum.Enum):
    DISABLED = 0
    NORMAL_VRAM = 3


def manager(**knobs: Any) -> ModuleType:
    made = ModuleType("a manager")
    vars(made).update(vram_state=State.NORMAL_VRAM, total_vram=24 * 1024, **knobs)
    return made


COMFY = SimpleNamespace(model_use_more_vram=None)


@pytest.fixture(autouse=True)
def nothing_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FORGE, REFORGE, LAUNCH, "modules.sd_models", "launch"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize(
    ("imported", "host", "name"),
    [
        ({FORGE: manager(current_inference_memory=1)}, Forge, "Forge"),
        # Branches of reForge with Forge's old backend have both.
        ({FORGE: manager(current_inference_memory=1), REFORGE: manager(LoadedModel=COMFY)}, Forge, "Forge"),
        ({FORGE: manager(LoadedModel=COMFY)}, Neo, "Forge Neo"),
        ({REFORGE: manager(LoadedModel=COMFY)}, ReForge, "reForge"),
        # Older managers under the same names: nothing is known of how they move models.
        ({FORGE: manager(LoadedModel=SimpleNamespace())}, WebUI, "WebUI of the A1111 family"),
        ({REFORGE: manager()}, WebUI, "WebUI of the A1111 family"),
        ({LAUNCH: ModuleType(LAUNCH)}, A1111, "WebUI of the A1111 family"),
        ({}, WebUI, "WebUI of the A1111 family"),
    ],
)
def test_a_host_is_known_by_its_knobs(
    monkeypatch: pytest.MonkeyPatch, imported: dict[str, ModuleType], host: type[WebUI], name: str
) -> None:
    for module, made in imported.items():
        monkeypatch.setitem(sys.modules, module, made)
    found = hosts.detect()
    assert type(found) is host
    assert found.name == name


def test_a1111_has_its_name_once_what_only_it_has_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    models: Any = ModuleType("modules.sd_models")
    monkeypatch.setitem(sys.modules, "modules.sd_models", models)
    models.send_model_to_trash = None
    assert A1111().name == "WebUI of the A1111 family"
    models.lowvram = None
    assert A1111().name == "A1111"


def test_what_does_nothing_on_a_host_is_not_offered_there() -> None:
    some = {key: each.hosts for key, each in SETTINGS.items() if each.hosts != EVERYWHERE}
    assert {"tier", "streams", "pinning", "weights", "checkpoints", "read_ahead"} <= some.keys()
    named = (Forge(manager()), A1111(), Neo(manager()), ReForge(manager()))
    for host in (WebUI(), *named):
        for option in OPTIONS:
            where = some.get(option.key.removeprefix("flux_speedup_"))
            assert option.has_effect_on(host.family) is (where is None or host.family in where)
    assert {host for where in some.values() for host in where} <= {host.family for host in named}


@pytest.mark.parametrize("host", [Forge, Neo, ReForge])
def test_a_manager_says_what_the_card_is(host: Any) -> None:
    def no_free_memory(device: Any) -> int:
        raise RuntimeError("the driver is busy")

    named = manager(torch_device_name="a card", get_free_memory=no_free_memory, get_torch_device=lambda: 0)
    card = host(named).card()
    assert (card.name, card.is_gpu, card.total, card.free) == ("a card", True, 24 * 2**30, None)
    asked = manager(
        get_torch_device=lambda: "cuda:0",
        get_torch_device_name=lambda device: f"the card at {device}",
        get_free_memory=lambda device: 7,
    )
    card = host(asked).card()
    assert (card.name, card.free) == ("the card at cuda:0", 7)
    asked.vram_state = State.DISABLED  # type: ignore[attr-defined]
    assert (host(asked).card().is_gpu, host(asked).card().total) == (False, None)


def test_the_memory_flag_of_the_user_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: Any = ModuleType("backend.args")
    arguments.args = SimpleNamespace(gpu_only=False, highvram=True)
    monkeypatch.setitem(sys.modules, "backend.args", arguments)
    assert Neo(manager()).vram_flag() == "--highvram"
    assert ReForge(manager()).vram_flag() is None


@pytest.mark.parametrize("host", [Neo, ReForge])
def test_who_does_not_want_files_mapped_gets_the_webuis_own_way_and_what_needs_ours_says_so(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: Any = ModuleType(host.args_name)
    arguments.args = SimpleNamespace(disable_mmap=True)
    monkeypatch.setitem(sys.modules, host.args_name, arguments)
    made = host(manager())
    with pytest.raises(Declined, match="--disable-mmap"):
        made.weight_changes(NOTHING)
    if host is Neo:
        for ask in (
            lambda: made.streaming_changes(True),
            lambda: made.checkpoint_changes((1, 1), None, frozenset),
        ):
            with pytest.raises(Declined, match="it needs weights to stay in their files"):
                ask()
    else:
        with pytest.raises(Declined, match="not available"):
            made.streaming_changes(True)
