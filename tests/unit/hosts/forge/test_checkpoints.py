"""Keeping built models, on a host that has Forge's names and throws every model away."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.common.checkpoints import Keeper
from flux_speedup.hosts.forge.habits import ForgeHabits
from flux_speedup.hosts.forge.weights import Attachment
from flux_speedup.patching.change import ChangeError, Declined, apply
from flux_speedup.stats.events import Event
from flux_speedup.weights.checkpoints import Limits
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.residency import residency
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.transfer.lane import PlainLane
from tests.second_device import CARD, used
from tests.second_device.marks import needs_card
from tests.unit.weights.weight_files import module_of, random_tensor, raw_bytes, write_weights

pytestmark = needs_card


class Engine:
    """What Forge calls a model."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        module = module_of({**tensors, "ram": torch.ones(1000)})
        module.lora_loader = SimpleNamespace(backup={}, online_backup=[], loaded_hash="[]")
        unet = SimpleNamespace(model=module, current_device=torch.device("cpu"), lora_patches={})
        unet.model_options = {"transformer_options": {"patches": {}}}
        self.text_processing_engine_l = SimpleNamespace(emphasis=SimpleNamespace(name="Original"))
        self.current_lora_hash = "[]"
        self.forge_objects = SimpleNamespace(unet=unet, clip=None, vae=None, clipvision=None)
        self.forge_objects_original = SimpleNamespace(**vars(self.forge_objects))
        self.forge_objects_after_applying_lora = SimpleNamespace(**vars(self.forge_objects))


class Info:
    def __init__(self, path: Path) -> None:
        self.filename, self.sha256 = str(path), f"sha256 of {path.name}"

    def __repr__(self) -> str:
        return self.filename

    def calculate_shorthash(self) -> str:
        return self.sha256[:10]


class Host:
    """The parts of Forge that a switch touches, with its habits: what it had last is what it believes it has."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.built: list[str] = []
        self.said: list[Any] = []
        self.events: list[Event] = []
        self.coming: list[tuple[Any, int, Any]] = []
        self.streaming = True
        self.attachment = Attachment(Placement(Registry(), lanes=PlainLane))
        self.data = SimpleNamespace(sd_model=None, forge_loading_parameters={}, forge_hash="")
        self.data.set_sd_model = lambda model: setattr(self.data, "sd_model", model)
        self.manager = self._module(monkeypatch, "backend.memory_management")
        self.manager.current_loaded_models = []
        self.manager.vram_state = SimpleNamespace(name="NORMAL_VRAM")
        self.manager.get_torch_device = self.manager.unet_offload_device = lambda: CARD
        self.manager.unload_all_models = self._unload_all_models
        self.emptied = 0
        self.manager.soft_empty_cache = self._soft_empty_cache
        self.args = self._module(monkeypatch, "backend.args")
        self.args.args, self.args.dynamic_args = SimpleNamespace(unet_in_bf16=True), {}
        self.shared = self._module(monkeypatch, "modules.shared")
        self.shared.cmd_opts = SimpleNamespace(embeddings_dir=str(folder / "embeddings"))
        self.shared.opts = SimpleNamespace(emphasis="Original", data={})
        callbacks = self._module(monkeypatch, "modules.script_callbacks")
        callbacks.model_loaded_callback = self.said.append
        self.sd_models = self._module(monkeypatch, "modules.sd_models")
        self.processing = self._module(monkeypatch, "modules.processing")
        self.sd_models.model_data, self.sd_models.forge_loader = self.data, self._load
        self.sd_models.forge_model_reload = self.processing.forge_model_reload = self._reload
        self.processing.process_images_inner = lambda job: job()
        for name in "abcd":
            tensors = {"w": random_tensor((50, 60), torch.bfloat16, ord(name))}
            write_weights(folder / f"{name}.safetensors", tensors)
        (folder / "bad.safetensors").write_bytes(b"nothing")

    def _unload_all_models(self) -> None:
        self.manager.current_loaded_models.clear()
        self.manager.soft_empty_cache()

    def _soft_empty_cache(self) -> None:
        self.emptied += 1

    @staticmethod
    def _module(monkeypatch: pytest.MonkeyPatch, name: str) -> Any:
        package, _, leaf = name.partition(".")
        for each in (package, name):
            if not isinstance(sys.modules.get(each), ModuleType) or each == name:
                monkeypatch.setitem(sys.modules, each, ModuleType(each))
        monkeypatch.setattr(sys.modules[package], leaf, sys.modules[name], raising=False)
        return sys.modules[name]

    def _load(self, path: str) -> Engine:
        if path.endswith("bad.safetensors"):
            raise ValueError("Failed to recognize model type!")
        self.built.append(Path(path).stem)
        read = self.attachment._wrap_load_file(lambda *_: {"w": torch.zeros(50, 60)})
        return Engine(self.attachment._wrap_split(read)(path))

    def _reload(self) -> tuple[Any, bool]:
        wanted = str(self.data.forge_loading_parameters)
        if self.data.forge_hash == wanted:
            return self.data.sd_model, False
        if self.data.sd_model:
            self.data.sd_model = None
        engine = self.sd_models.forge_loader(self.data.forge_loading_parameters["checkpoint_info"].filename)
        self.data.set_sd_model(engine)
        self.said.append(engine)
        self.data.forge_hash = wanted
        return engine, True

    def want(self, name: str, **more: Any) -> tuple[Any, bool]:
        """Choose a checkpoint as a request does."""
        info = Info(self.folder / f"{name}.safetensors")
        self.data.forge_loading_parameters = {"checkpoint_info": info, "additional_modules": [], **more}
        return self.processing.forge_model_reload()

    def request(self, job: Callable[[], Any] = lambda: None) -> Any:
        return self.processing.process_images_inner(job)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def keeping(host: Host) -> Keeper:
    habits = ForgeHabits(host.attachment)
    return Keeper(
        host.attachment,
        habits,
        Limits(2, 10**6),
        host.events.append,
        lambda: host.streaming,
        lambda engine: host.coming.append((engine, used(), host.data.sd_model)),
    )


@pytest.fixture
def keeper(host: Host) -> Iterator[Keeper]:
    made = keeping(host)
    undos = [apply(change) for change in made.changes()]
    made.undo = lambda: [undo() for undo in reversed(undos)]  # type: ignore[attr-defined]
    yield made
    made.undo()  # type: ignore[attr-defined]


def test_there_and_back_is_one_build_each_and_everything_is_as_after_a_build(
    host: Host, keeper: Keeper
) -> None:
    a, _ = host.want("a")
    before = used()
    host.attachment.placement.load(a.forge_objects.unet.model, CARD)
    assert used() > before
    clone = SimpleNamespace(model=a.forge_objects.unet.model, lora_patches={"lora": 1})
    a.forge_objects.unet = a.forge_objects_after_applying_lora.unet = clone
    # Whoever tells the patcher itself tells all images until the model is built anew.
    told = a.forge_objects_original.unet
    told.lora_patches["b"], told.model_options["cfg"] = 1, "another"
    told.model_options["transformer_options"]["patches"]["attn1_patch"] = [print]
    a.current_lora_hash, a.comments, a.left_by_somebody = "a lora", ["comment"], True
    # As the host makes it for each prompt.
    a.text_processing_engine_l.emphasis = SimpleNamespace(name="Original", z=torch.ones(77, 768, device=CARD))
    b, _ = host.want("b")
    assert a.forge_objects.unet is not clone
    assert used() == before
    assert host.attachment.placement.of(a.forge_objects.unet.model).resident == ()
    assert [kept.ram for kept in keeper.kept.entries()] == [4000]

    assert host.want("a") == (a, True)
    assert host.built == ["a", "b"]
    assert host.said == [a, b, a]
    assert (a.current_lora_hash, a.comments, a.extra_generation_params) == ("[]", [], {})
    assert not hasattr(a, "left_by_somebody")
    assert told.model_options == {"transformer_options": {"patches": {}}}
    assert told.lora_patches == {}
    assert vars(a.text_processing_engine_l.emphasis) == {"name": "Original"}
    objects = (a.forge_objects, a.forge_objects_original, a.forge_objects_after_applying_lora)
    assert len({id(each) for each in objects}) == 3
    assert len({id(each.unet) for each in objects}) == 1
    assert a.sd_checkpoint_info is host.data.forge_loading_parameters["checkpoint_info"]
    assert (a.sd_model_hash, host.shared.opts.data["sd_checkpoint_hash"]) == (
        "sha256 of ",
        "sha256 of a.safetensors",
    )
    assert host.args.dynamic_args["emphasis_name"] == "Original"
    assert host.want("a") == (a, False)
    assert [(e.kind, e.what, e.source) for e in host.events] == [("checkpoint", "a.safetensors", "kept")]


def test_a_kept_one_is_announced_as_soon_as_the_card_has_room(host: Host, keeper: Keeper) -> None:
    before = used()
    a, _ = host.want("a")
    b, _ = host.want("b")
    assert host.coming == [], "what is built is not there yet"
    host.attachment.placement.load(b.forge_objects.unet.model, CARD)
    host.want("a")
    assert host.coming == [(a, before, b)]


def test_one_that_was_written_is_not_announced(host: Host, keeper: Keeper) -> None:
    a, _ = host.want("a")
    host.want("b")
    a.forge_objects.unet.model.w.data[0, 0] = 3.0
    host.want("a")
    assert (host.coming, host.built) == ([], ["a", "b", "a"])


def test_what_one_checkpoint_leaves_on_the_card_is_for_the_next(host: Host, keeper: Keeper) -> None:
    for name in ("a", "b", "a"):
        host.want(name)
    assert host.emptied == 0
    host.manager.unload_all_models()  # somebody wants it back
    assert host.emptied == 1


def test_weights_are_as_built_and_no_module_is_shared(host: Host, keeper: Keeper) -> None:
    a, _ = host.want("a")
    module = a.forge_objects.unet.model
    clean = raw_bytes(module.w)
    module.w.data = torch.zeros(50, 60)
    module.lora_loader.loaded_hash = "a lora"
    b, _ = host.want("b")
    host.want("a")
    assert raw_bytes(module.w) == clean
    assert module.lora_loader.loaded_hash == "[]"
    assert b.forge_objects.unet.model is not module


def test_a_switch_does_not_look_for_changes_that_nobody_wants(
    host: Host, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = host.want("a")
    module = a.forge_objects.unet.model
    clean, before = raw_bytes(module.w), used()
    host.attachment.placement.load(module, CARD)
    with torch.no_grad():
        module.w[3, 4] = 2.0
    monkeypatch.setattr(residency, "changed", lambda _: pytest.fail("they were looked for"))
    host.want("b")
    assert used() == before
    assert host.want("a") == (a, True)
    assert raw_bytes(module.w) == clean


def test_whoever_empties_the_hosts_note_gets_a_new_build(host: Host, keeper: Keeper) -> None:
    """As extensions do that want a model without what was done to it."""
    a, _ = host.want("a")
    host.want("b")
    assert host.want("a") == (a, True)
    host.data.forge_hash = ""
    again, _ = host.want("a")
    assert again is not a
    assert host.built == ["a", "b", "a"]
    assert host.want("a") == (again, False)
    host.want("b")
    assert host.want("a") == (again, True)
    host.want("b")
    host.data.forge_hash = ""
    assert host.want("a")[0] not in (a, again)


def test_the_longest_unused_one_is_built_anew(host: Host, keeper: Keeper) -> None:
    for name in "abcab":
        host.want(name)
    assert host.built == ["a", "b", "c"]
    for name in "dac":
        host.want(name)
    assert host.built == ["a", "b", "c", "d", "c"]
    assert [Path(kept.key.files[0][0]).stem for kept in keeper.kept.entries()] == ["d", "a"]


@pytest.mark.parametrize("change", ["emphasis", "vram_state", "flag", "storage", "yaml", "embedding", "file"])
def test_whatever_a_build_depends_on_makes_a_new_one(host: Host, keeper: Keeper, change: str) -> None:
    host.want("a")
    host.want("b")
    more: dict[str, Any] = {}
    if change == "emphasis":
        host.shared.opts.emphasis = "No norm"
    elif change == "vram_state":
        host.manager.vram_state = SimpleNamespace(name="HIGH_VRAM")
    elif change == "flag":
        host.args.args.unet_in_bf16 = False
    elif change == "storage":
        more["unet_storage_dtype"] = torch.float8_e4m3fn
    elif change == "yaml":
        (host.folder / "a.yaml").touch()
    elif change == "embedding":
        (host.folder / "embeddings").mkdir()
    else:
        write_weights(host.folder / "a.safetensors", {"w": torch.ones(50, 60)})
    model, _ = host.want("a", **more)
    assert host.built == ["a", "b", "a"]
    if change == "file":
        assert model.forge_objects.unet.model.w.sum() == 3000


def test_a_model_whose_last_request_raised_is_not_kept(host: Host, keeper: Keeper) -> None:
    host.want("a")
    with pytest.raises(ZeroDivisionError):
        host.request(lambda: 1 / 0)
    host.want("b")
    host.want("a")
    assert host.built == ["a", "b", "a"]
    with pytest.raises(ZeroDivisionError):
        host.request(lambda: 1 / 0)
    host.request()
    host.want("b")
    host.want("a")
    assert host.built == ["a", "b", "a"]


def test_a_request_that_raises_after_a_switch_takes_both_models_with_it(host: Host, keeper: Keeper) -> None:
    host.want("a")

    def refine() -> None:
        host.want("b")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        host.request(refine)
    assert keeper.kept.entries() == []
    host.want("a")
    host.want("b")
    assert host.built == ["a", "b", "a", "b"]


def test_after_a_checkpoint_that_cannot_be_built_the_one_before_works(host: Host, keeper: Keeper) -> None:
    a, _ = host.want("a")
    with pytest.raises(ValueError, match="recognize"):
        host.want("bad")
    assert host.want("a") == (a, True)
    with pytest.raises(ZeroDivisionError):
        host.request(lambda: 1 / 0)
    with pytest.raises(ValueError, match="recognize"):
        host.want("bad")
    again, built = host.want("a")
    assert (built, again is a, host.data.sd_model is again) == (True, False, True)


def test_where_ours_fails_the_host_builds(
    host: Host, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    host.want("a")
    host.want("b")
    monkeypatch.setattr(Info, "calculate_shorthash", lambda _: 1 / 0)
    model, built = host.want("a")
    assert built
    assert host.built == ["a", "b", "a"]
    assert host.data.sd_model is model
    assert "falling back to the WebUI's own loading" in caplog.text
    host.manager.unload_all_models = lambda: 1 / 0
    host.want("c")
    assert "the WebUI throws it away" in caplog.text
    assert host.built[-1] == "c"


def test_what_was_not_streamed_is_not_kept(host: Host, keeper: Keeper) -> None:
    host.want("a")
    host.streaming = False
    host.want("b")
    assert keeper.kept.entries() == []
    host.streaming = True
    host.sd_models.forge_loader = lambda path: Engine({"w": torch.zeros(3)})
    host.want("c")
    host.want("a")
    assert [Path(kept.key.files[0][0]).stem for kept in keeper.kept.entries()] == ["b"]


def test_the_undo_drops_everything_and_leaves_the_host_alone(host: Host, keeper: Keeper) -> None:
    host.want("a")
    host.want("b")
    keeper.undo()  # type: ignore[attr-defined]
    assert keeper.kept.entries() == []
    assert host.sd_models.forge_model_reload == host.processing.forge_model_reload == host._reload
    host.want("a")
    assert host.built == ["a", "b", "a"]


def test_one_name_may_lead_to_the_other(host: Host) -> None:
    host.processing.forge_model_reload = lambda: host.sd_models.forge_model_reload()
    keeper = keeping(host)
    (undo,) = [apply(change) for change in keeper.changes()]
    a, _ = host.want("a")
    host.want("b")
    assert host.want("a") == (a, True)
    assert len(host.events) == 1
    undo()
    host.want("b")
    assert host.built == ["a", "b", "b"]


@pytest.mark.parametrize("missing", ["forge_loading_parameters", "process_images_inner"])
def test_a_host_with_other_ways_is_left_alone(host: Host, missing: str) -> None:
    owner = host.processing if missing == "process_images_inner" else host.data
    delattr(owner, missing)
    before = host.sd_models.forge_model_reload
    (change,) = keeping(host).changes()
    with pytest.raises(Declined, match="another way"):
        apply(change)
    assert host.sd_models.forge_model_reload is before


def test_half_of_the_names_is_none(host: Host) -> None:
    before = host.sd_models.forge_model_reload
    del host.processing.forge_model_reload
    (change,) = keeping(host).changes()
    with pytest.raises(ChangeError):
        apply(change)
    assert host.sd_models.forge_model_reload == before
    assert host.sd_models.forge_loader == host._load
