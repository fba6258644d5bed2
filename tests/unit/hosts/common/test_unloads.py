"""When models are unloaded and encodings forgotten, on a stand-in for the host's modules."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.common.unloads import InForce, reason
from flux_speedup.hosts.forge import unloads as forge_unloads
from flux_speedup.patching.table import PatchTable

GB = 10**9
NOW = InForce("one", GB, False)


def why(before: InForce | None, now: InForce, *, partly: bool = False, short: bool = False) -> str | None:
    return reason(before, now, partly=lambda: partly, short=lambda: short)


def test_nothing_changed_is_no_reason() -> None:
    assert why(NOW, NOW, partly=True, short=True) is None


def test_an_unknown_past_and_other_loading_parameters_are_reasons() -> None:
    assert why(None, NOW) == "the first request"
    assert why(InForce("two", GB, False), NOW) == "the loading parameters changed"


@pytest.mark.parametrize(
    ("inference", "partly", "short", "unloads"),
    [
        (2 * GB, False, False, False),
        (2 * GB, True, False, True),
        (2 * GB, False, True, True),
        (GB // 2, True, False, True),
        (GB // 2, False, True, False),
    ],
)
def test_inference_memory_counts_for_what_is_partly_loaded_or_too_much(
    inference: int, partly: bool, short: bool, unloads: bool
) -> None:
    found = why(NOW, InForce("one", inference, False), partly=partly, short=short)
    assert found == ("the memory kept for inference changed" if unloads else None)


def test_pinning_counts_for_weights_that_wait_in_ram() -> None:
    assert why(NOW, InForce("one", GB, True)) is None
    assert why(NOW, InForce("one", GB, True), partly=True) == "pinning changed"


class Processing:
    """The host's class, as far as the changes see it: what is encoded is kept in lists of the class."""

    cached_c: list[Any]
    cached_uc: list[Any]

    def __init__(self) -> None:
        self.cached_c, self.cached_uc = Processing.cached_c, Processing.cached_uc

    def clear_prompt_cache(self) -> None:
        self.cached_c, self.cached_uc = [None, None, None], [None, None, None]
        Processing.cached_c, Processing.cached_uc = [None, None, None], [None, None, None]

    def get_conds_with_caching(self, prompt: str) -> str:
        host = sys.modules["modules.processing"]
        if self.cached_c[0] != [prompt]:
            host.encoded.append(prompt)
            self.cached_c[0], self.cached_c[1] = [prompt], f"{prompt} by {host.loaded()}"
        return str(self.cached_c[1])


class Host:
    """Modules by the host's names; `image()` is one request."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        Processing.cached_c, Processing.cached_uc = [None, None, None], [None, None, None]
        self.data = SimpleNamespace(forge_loading_parameters={"checkpoint": "one"}, forge_hash="")
        self.parameter = SimpleNamespace(device="cuda")
        model = SimpleNamespace(
            model=SimpleNamespace(model=SimpleNamespace(parameters=lambda: [self.parameter]))
        )
        self.manager = self._module(
            "backend.memory_management",
            current_inference_memory=GB,
            PIN_SHARED_MEMORY=False,
            current_loaded_models=[SimpleNamespace(device="cuda", model=model.model)],
            cpu="cpu",
            get_free_memory=lambda device: 10 * GB,
            minimum_inference_memory=lambda: self.manager.current_inference_memory,
        )
        self.online = self._module("backend.args", dynamic_args={}).dynamic_args
        self._module("modules.sd_models", model_data=self.data)
        self.settings: dict[str, Any] = {"sd3_enable_t5": False, "sd_model_checkpoint": "one"}
        self._module("modules.shared", opts=SimpleNamespace(data=self.settings))
        self.processing = self._module(
            "modules.processing",
            need_global_unload=False,
            StableDiffusionProcessing=Processing,
            manage_model_and_prompt_cache=self._manage,
            encoded=[],
            loaded=lambda: self.data.forge_hash,
        )
        self.entry = self._module(
            "modules_forge.main_entry",
            refresh_memory_management_settings=self._refresh,
            refresh_model_loading_parameters=self._refresh,
        )
        self.unloads = 0
        self._patch = patch
        for module in self._modules:
            patch.setitem(sys.modules, module.__name__, module)

    def _module(self, name: str, **values: Any) -> Any:
        made: Any = ModuleType(name)
        vars(made).update(values)
        self._modules = [*getattr(self, "_modules", []), made]
        return made

    def _refresh(self) -> str:
        self.processing.need_global_unload = True
        return "refreshed"

    def _manage(self, p: Processing) -> None:
        reloaded = self.data.forge_hash != str(self.data.forge_loading_parameters)
        self.data.forge_hash = str(self.data.forge_loading_parameters)
        if self.processing.need_global_unload:
            self.unloads += not reloaded
            p.clear_prompt_cache()
        self.processing.need_global_unload = False

    def choose(self, checkpoint: str) -> None:
        self.data.forge_loading_parameters = {"checkpoint": checkpoint}
        assert self.entry.refresh_model_loading_parameters() == "refreshed"

    def image(self, prompt: str = "a cat") -> str:
        p = Processing()
        self.processing.manage_model_and_prompt_cache(p)
        return p.get_conds_with_caching(prompt)

    @property
    def encoded(self) -> int:
        return len(self.processing.encoded)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(monkeypatch)
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    table.add("needless_unloads", "title", "why", forge_unloads.changes(made.manager))
    made.table = table  # type: ignore[attr-defined]
    yield made
    table.put_back()


def test_the_first_encoding_is_kept_for_the_second_image(host: Host) -> None:
    host.processing.need_global_unload = True
    assert host.image() == host.image()
    assert host.encoded == 1


def test_settings_written_as_they_were_unload_nothing(host: Host) -> None:
    host.image()
    for refresh in (
        host.entry.refresh_memory_management_settings,
        host.entry.refresh_model_loading_parameters,
    ):
        refresh()
        assert host.processing.need_global_unload is False
        host.image()
    assert (host.unloads, host.encoded) == (0, 1)


def test_another_checkpoint_for_one_request_each_time_is_loaded_and_encoded_for_once(host: Host) -> None:
    host.choose("two")
    host.image()
    for _ in range(3):
        host.choose("one")
        host.choose("two")
        host.image()
    assert (host.unloads, host.encoded) == (0, 1)


def test_a_real_change_of_checkpoint_encodes_anew_and_back_again(host: Host) -> None:
    host.image()
    host.choose("two")
    assert "two" in host.image()
    host.choose("one")
    assert "one" in host.image()
    assert host.encoded == 3


def test_a_setting_that_the_host_does_not_know_encodings_by_counts_where_the_host_would_encode_anew(
    host: Host,
) -> None:
    host.image()
    host.settings["sd3_enable_t5"] = True
    host.image()
    assert host.encoded == 1, "the host alone uses it, too"
    host.entry.refresh_memory_management_settings()
    host.image()
    host.entry.refresh_memory_management_settings()
    host.settings["sd_model_checkpoint"] = "one, by another name"
    host.image()
    assert (host.unloads, host.encoded) == (0, 2)
    # For one request each time: what was in force when it was encoded counts.
    for _ in range(2):
        host.settings["sd3_enable_t5"] = False
        host.entry.refresh_model_loading_parameters()
        host.image()
        host.settings["sd3_enable_t5"] = True
        host.entry.refresh_model_loading_parameters()
    assert (host.unloads, host.encoded) == (0, 3)


def test_lora_on_the_fly_is_a_loading_parameter(host: Host) -> None:
    host.image()
    host.online["online_lora"] = True
    host.image()
    assert (host.unloads, host.encoded) == (1, 2)


def test_a_flag_set_by_somebody_else_counts_and_survives_a_refresh(host: Host) -> None:
    host.image()
    host.processing.need_global_unload = True
    host.entry.refresh_memory_management_settings()
    assert host.processing.need_global_unload is True
    host.image()
    assert (host.unloads, host.encoded) == (1, 2)


def test_memory_that_changed_unloads_what_is_partly_loaded_and_keeps_the_encoding(host: Host) -> None:
    host.image()
    host.manager.current_inference_memory = 2 * GB
    host.image()
    assert host.unloads == 0
    host.parameter.device = "cpu"
    host.manager.current_inference_memory = 3 * GB
    host.image()
    assert (host.unloads, host.encoded) == (1, 1)


def test_an_encoding_by_a_model_that_was_there_in_between_is_forgotten(host: Host) -> None:
    host.image()
    # As within a batch: the model of another checkpoint is loaded without a request of its own, and encodes.
    host.data.forge_hash = "{'checkpoint': 'two'}"
    assert "two" in Processing().get_conds_with_caching("a dog")
    host.data.forge_hash = "{'checkpoint': 'one'}"
    assert "one" in host.image("a dog")


def test_another_extension_that_clears_has_lists_of_its_own(host: Host) -> None:
    host.image()
    p = Processing()
    p.clear_prompt_cache()
    assert p.cached_c is not Processing.cached_c


def test_put_back_is_the_host_again(host: Host) -> None:
    host.image()
    host.table.put_back()  # type: ignore[attr-defined]
    host.entry.refresh_memory_management_settings()
    assert host.processing.need_global_unload is True
    host.image()
    assert host.unloads == 1
