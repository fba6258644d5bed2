"""Hashes that are waited for where they are read, on a stand-in with the host's order of steps."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.forge import digests as forge_digests
from flux_speedup.hosts.forge.hashes.changes import HashWait
from flux_speedup.patching.table import PatchTable, State
from flux_speedup.storage.sidecar import Sidecar
from flux_speedup.weights.files.file_digests import FileDigests
from tests.unit.hosts.held import Held
from tests.waiting import PATIENCE_S, eventually


class Info:
    """A checkpoint's entry: what it says, and how it learns its hash."""

    host: Host

    def __init__(self, filename: Path) -> None:
        self.filename, self.name = str(filename), filename.name
        self.sha256: str | None = None
        self.shorthash: str | None = None
        self.title = self.short_title = self.name
        self.ids = [self.name]

    def register(self) -> None:
        self.host.models.checkpoints_list[self.title] = self
        for each in self.ids:
            self.host.models.checkpoint_aliases[each] = self

    def calculate_shorthash(self) -> str | None:
        self.sha256 = self.host.sha256(self.filename, f"checkpoint/{self.name}")
        if self.sha256 is None or self.shorthash == self.sha256[:10]:
            return self.shorthash
        self.shorthash = self.sha256[:10]
        before, self.title = self.title, f"{self.name} [{self.shorthash}]"
        self.short_title, self.ids = self.title, [*self.ids, self.shorthash]
        listed = self.host.models.checkpoints_list
        order = [self.title if title == before else title for title in listed]
        listed[self.title] = self
        again = {title: listed[title] for title in order}
        listed.clear()
        listed.update(again)
        self.register()
        return self.shorthash


class Request:
    sd_model_hash: str | None = None

    def __init__(self, host: Host, **more: Any) -> None:
        self.extra_generation_params: dict[str, Any] = {}
        self.override_settings: dict[str, Any] = {}
        self.host = host
        self.fails = False
        vars(self).update(more)

    def setup_conds(self) -> None:
        self.host.steps.append("conds")

    def sample(self) -> None:
        self.host.steps.append("sample")
        self.host.params_while_sampling = self.host.params.read_text()
        if self.fails:
            raise RuntimeError("out of memory")


class Processed:
    def __init__(self, p: Any, images_list: Any) -> None:
        self.sd_model_hash = p.sd_model_hash
        self.extra_generation_params = p.extra_generation_params
        self.images = images_list

    def infotext(self, p: Any, index: int) -> str:
        return str(p.host.create_infotext(p))

    def js(self) -> tuple[Any, Any]:
        return self.sd_model_hash, dict(self.extra_generation_params)


class Engine:
    sd_model_hash: Any


class Host:
    """The host's modules with those names and steps that matter here. `steps`: what happened, in order."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.steps: list[str] = []
        self.folder, self.params = folder, folder / "params.txt"
        self.params_while_sampling = ""
        self.loaded: Callable[[Any], object] = lambda model: None
        self.cached: dict[str, str] = {}
        self.data: dict[str, Any] = {"sd_checkpoint_hash": "of the last session"}
        info: Any = type("CheckpointInfo", (Info,), dict(vars(Info), host=self))
        request: Any = type("StableDiffusionProcessing", (Request,), dict(vars(Request)))
        self.request = type("StableDiffusionProcessingTxt2Img", (request,), dict(vars(Request)))
        del self.request.sd_model_hash
        self.engine = type("ForgeDiffusionEngine", (Engine,), {})
        self.processing = self._add(
            patch,
            "modules.processing",
            StableDiffusionProcessing=request,
            StableDiffusionProcessingTxt2Img=self.request,
            StableDiffusionProcessingImg2Img=type(
                "StableDiffusionProcessingImg2Img", (request,), {"sample": Request.sample}
            ),
            Processed=type("Processed", (), dict(vars(Processed))),
            process_images_inner=self._inner,
            forge_model_reload=self._reload,
        )
        self.models = self._add(
            patch,
            "modules.sd_models",
            CheckpointInfo=info,
            checkpoints_list={},
            checkpoint_aliases={},
            model_data=SimpleNamespace(forge_loading_parameters={}, sd_model=None),
            forge_model_reload=self._reload,
            select_checkpoint=lambda: None,
            get_closet_checkpoint_match=lambda name: self.models.checkpoint_aliases.get(name),
            list_models=lambda: None,
            checkpoint_tiles=lambda: [each.title for each in self.models.checkpoints_list.values()],
        )
        self.hashes = self._add(
            patch,
            "modules.hashes",
            calculate_sha256_real=lambda file: hashlib.sha256(Path(file).read_bytes()).hexdigest(),
            sha256_from_cache=lambda file, title, use_addnet_hash=False: self.cached.get(title),
        )
        self.flags = SimpleNamespace(no_hashing=False, no_prompt_history=False)
        opts = SimpleNamespace(data=self.data, sd_model_checkpoint=None)
        self._add(patch, "modules.shared", cmd_opts=self.flags, opts=opts)
        runner = type("ScriptRunner", (), {"before_process": lambda self, p: None})
        self.scripts = self._add(patch, "modules.scripts", ScriptRunner=runner)
        self._add(patch, "modules.paths", data_path=str(folder))
        self._add(patch, "modules.infotext_utils", quote=lambda text: f'"{text}"' if "," in text else text)
        self._add(patch, "backend.diffusion_engine.base", ForgeDiffusionEngine=self.engine)
        for package in ("modules", "backend", "backend.diffusion_engine"):
            self._add(patch, package)
        for name in ("hashes", "shared", "processing", "sd_models", "paths", "infotext_utils"):
            setattr(sys.modules["modules"], name, sys.modules[f"modules.{name}"])

    @staticmethod
    def _add(patch: pytest.MonkeyPatch, name: str, **values: Any) -> Any:
        made: Any = ModuleType(name)
        vars(made).update(values)
        patch.setitem(sys.modules, name, made)
        return made

    def checkpoint(self, name: str) -> Any:
        file = self.folder / name
        file.write_bytes(os.urandom(5_000))
        made = self.models.CheckpointInfo(file)
        made.register()
        return made

    def sha256(self, file: str, title: str) -> str | None:
        if title not in self.cached:
            if self.flags.no_hashing:
                return None
            self.cached[title] = self.hashes.calculate_sha256_real(file)
        return self.cached[title]

    def load(self, info: Any) -> Any:
        self.models.model_data.forge_loading_parameters = {"checkpoint_info": info}
        self.models.model_data.sd_model = None
        return self.models.forge_model_reload()

    def _reload(self) -> Any:
        data = self.models.model_data
        if data.sd_model is None:
            info = data.forge_loading_parameters["checkpoint_info"]
            model: Any = self.engine()
            model.sd_model_hash = info.calculate_shorthash()
            self.data["sd_checkpoint_hash"] = info.sha256
            data.sd_model = model
            self.steps.append("loaded")
            self.loaded(model)
        return data.sd_model

    def create_infotext(self, p: Any) -> str:
        said = {"Steps": 2, "Model hash": p.sd_model_hash, "Model": "m", **p.extra_generation_params}
        for key, value in said.items():
            said[key] = value(p=p) if callable(value) else value
        quote = sys.modules["modules.infotext_utils"].quote
        text = ", ".join(f"{k}: {quote(str(v))}" for k, v in said.items() if v is not None)
        self.steps.append("text")
        return f"a cat\n{text}"

    def _inner(self, p: Any) -> Any:
        p.sd_model_hash = self.models.model_data.sd_model.sd_model_hash
        p.setup_conds()
        with self.params.open("w", encoding="utf8") as file:
            file.write(self.processing.Processed(p, []).infotext(p, 0))
        p.sample()
        p.text = self.create_infotext(p)
        return self.processing.Processed(p, ["image"])


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    return Host(monkeypatch, tmp_path)


@pytest.fixture
def apply(held: Held, tmp_path: Path) -> Iterator[Callable[..., PatchTable]]:
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    digests = FileDigests(Sidecar(tmp_path / "digests.json"), read=held)

    def add(never: bool = False, device: str = "cuda") -> PatchTable:
        made = HashWait(digests, never, lambda: SimpleNamespace(type=device))
        table.add("digest", "title", "why", forge_digests.changes(digests))
        table.add("hash_wait", "title", "why", made.changes())
        assert {outcome.state for outcome in table.outcomes()} == {State.APPLIED}, table.outcomes()
        return table

    yield add
    held.go_on.set()
    table.put_back()


def short(info: Any) -> str:
    return hashlib.sha256(Path(info.filename).read_bytes()).hexdigest()[:10]


def soon(held: Held) -> None:
    threading.Timer(0.1, held.go_on.set).start()


def alone(host: Host, info: Any) -> tuple[Any, ...]:
    """What the host says without us."""
    host.load(info)
    p = host.request(host)
    made = host.processing.process_images_inner(p)
    return p.text, host.params.read_bytes(), made.js()


def test_text_options_lists_and_params_have_it_in_the_end(host: Host, held: Held, apply) -> None:
    info, other = host.checkpoint("one"), host.checkpoint("two")
    apply()
    model = host.load(info)
    assert host.data["sd_checkpoint_hash"] == "of the last session"
    assert host.steps == ["loaded"]
    soon(held)
    p = host.request(host)
    made = host.processing.process_images_inner(p)
    assert host.params_while_sampling == "a cat\nSteps: 2, Model: m"
    assert p.text == host.params.read_text() == f"a cat\nSteps: 2, Model hash: {short(info)}, Model: m"
    assert made.js()[0] == model.sd_model_hash == p.sd_model_hash == short(info)
    assert type(p.sd_model_hash) is str
    assert host.data["sd_checkpoint_hash"] == info.sha256
    assert list(host.models.checkpoints_list) == [f"one [{short(info)}]", "two"]
    assert host.models.checkpoint_aliases[short(info)] is info
    assert other.sha256 is None
    # The second time there is nothing to wait for, and nothing to write later.
    host.params_while_sampling = ""
    assert alone(host, info)[0] == p.text == host.params_while_sampling


def test_what_was_really_waited_for_is_said_once(host: Host, held: Held, apply, caplog) -> None:
    apply()
    host.load(host.checkpoint("one"))
    threading.Timer(0.3, held.go_on.set).start()
    with caplog.at_level(logging.INFO, "flux_speedup"):
        for _ in range(2):
            host.processing.process_images_inner(host.request(host))
    assert caplog.text.count("one: its hash, used for the first time, was waited for: ") == 1


def test_who_reads_an_entry_in_a_walk_over_the_list_gets_all_of_them_once(
    host: Host, held: Held, apply
) -> None:
    infos = [host.checkpoint(name) for name in "abcde"]
    apply()
    for info in infos[::2]:
        host.load(info)
    soon(held)
    titles = [(x.title, x.shorthash, x.sha256) for x in host.models.checkpoints_list.values()]
    hashes = [short(info) if n % 2 == 0 else None for n, info in enumerate(infos)]
    assert [found for _, found, _ in titles] == hashes
    assert [title for title, _, _ in titles] == [
        f"{i.name} [{h}]" if h else i.name for i, h in zip(infos, hashes, strict=True)
    ]
    assert list(host.models.checkpoints_list) == [title for title, _, _ in titles]


def test_the_option_is_that_of_the_last_load_whenever_its_hash_comes(host: Host, held: Held, apply) -> None:
    one, two, known = (host.checkpoint(name) for name in ("one", "two", "known"))
    host.cached["checkpoint/known"] = "c" * 64
    apply()
    for info in (one, two):
        host.load(info)
    soon(held)
    assert one.sha256
    assert host.data["sd_checkpoint_hash"] == "of the last session"
    assert two.sha256 == host.data["sd_checkpoint_hash"]
    host.load(one)
    host.cached.pop("checkpoint/two")
    two.shorthash = two.sha256 = None
    host.load(known)
    assert host.data["sd_checkpoint_hash"] == "c" * 64


def test_a_name_that_only_the_hash_makes_known_is_waited_for(host: Host, held: Held, apply) -> None:
    info = host.checkpoint("one")
    apply()
    host.load(info)
    soon(held)
    assert host.models.get_closet_checkpoint_match("one") is info
    assert host.models.get_closet_checkpoint_match(short(info)) is info
    assert host.models.checkpoint_tiles() == [f"one [{short(info)}]"]


def test_while_another_threads_request_waits_lists_are_shown_as_they_are(
    host: Host, held: Held, apply
) -> None:
    info = host.checkpoint("one")
    apply()
    host.load(info)
    host.request.sample = lambda p: (at_work.set(), go_on.wait(PATIENCE_S))
    at_work, go_on = threading.Event(), threading.Event()
    working = threading.Thread(target=host.processing.process_images_inner, args=(host.request(host),))
    working.start()
    assert at_work.wait(PATIENCE_S)
    host.models.list_models()  # does not wait
    go_on.set()
    held.go_on.set()
    working.join(PATIENCE_S)
    assert info.shorthash == short(info)


def test_a_callback_of_the_load_that_asks_gets_it(host: Host, held: Held, apply) -> None:
    info = host.checkpoint("one")
    apply()
    seen: list[Any] = []
    host.loaded = lambda model: seen.extend([model.sd_model_hash, info.shorthash, info.calculate_shorthash()])
    soon(held)
    host.load(info)
    assert seen == [short(info)] * 3


def test_a_file_that_is_gone_costs_the_hash_and_not_the_image(host: Host, held: Held, apply, caplog) -> None:
    info = host.checkpoint("one")
    apply()
    host.load(info)
    Path(info.filename).unlink()
    held.go_on.set()
    p = host.request(host)
    with caplog.at_level(logging.WARNING, "flux_speedup"):
        host.processing.process_images_inner(p)
    assert p.text == host.params.read_text() == "a cat\nSteps: 2, Model: m"
    assert "images go without it" in caplog.text


def test_a_file_written_over_since_it_was_loaded_gives_no_image_its_new_hash(
    host: Host, held: Held, apply, caplog
) -> None:
    info = host.checkpoint("one")
    apply()
    host.load(info)
    Path(info.filename).write_bytes(b"other weights")
    held.go_on.set()
    p = host.request(host)
    with caplog.at_level(logging.WARNING, "flux_speedup"):
        made = host.processing.process_images_inner(p)
    assert p.text == host.params.read_text() == "a cat\nSteps: 2, Model: m"
    assert made.js()[0] is None
    assert info.shorthash == short(info)
    assert "changed since it was loaded" in caplog.text


def test_a_request_that_fails_leaves_params_that_get_their_hash(host: Host, held: Held, apply) -> None:
    info = host.checkpoint("one")
    apply()
    host.load(info)
    with pytest.raises(RuntimeError, match="out of memory"):
        host.processing.process_images_inner(host.request(host, fails=True))
    assert "Model hash" not in host.params.read_text()
    held.go_on.set()
    assert eventually(lambda: "Model hash" in host.params.read_text())
    assert host.params.read_text() == f"a cat\nSteps: 2, Model hash: {short(info)}, Model: m"


def test_params_that_somebody_else_wrote_meanwhile_stay(host: Host, held: Held, apply) -> None:
    info = host.checkpoint("one")
    apply()
    host.load(info)
    host.request.sample = lambda p: host.params.write_text("another's") and None
    soon(held)
    host.processing.process_images_inner(host.request(host))
    assert host.params.read_text() == "another's"


def test_never_goes_without_until_it_is_there(host: Host, held: Held, apply, caplog) -> None:
    info = host.checkpoint("one")
    apply(never=True)
    model = host.load(info)
    with caplog.at_level(logging.INFO, "flux_speedup"):
        for _ in range(2):
            p = host.request(host)
            made = host.processing.process_images_inner(p)
            assert p.text == host.params.read_text() == "a cat\nSteps: 2, Model: m"
            assert made.js()[0] is None
    assert caplog.text.count("images go without it") == 1
    assert (info.sha256, info.title, model.sd_model_hash) == (None, "one", None)
    held.go_on.set()
    assert eventually(lambda: info.sha256 is not None)
    p = host.request(host)
    host.processing.process_images_inner(p)
    assert p.text == host.params.read_text() == f"a cat\nSteps: 2, Model hash: {short(info)}, Model: m"


def test_without_hashing_nothing_is_waited_for_and_nothing_begun(host: Host, held: Held, apply) -> None:
    host.flags.no_hashing = True
    apply()
    host.load(host.checkpoint("one"))
    assert host.models.model_data.sd_model.sd_model_hash is None
    assert host.data["sd_checkpoint_hash"] is None


def test_put_back_waits_once_and_leaves_plain_values(host: Host, held: Held, apply) -> None:
    info = host.checkpoint("one")
    table = apply()
    model = host.load(info)
    soon(held)
    table.put_back()
    assert vars(model) == {"sd_model_hash": short(info)}
    assert (vars(info)["sha256"] or "")[:10] == short(info)
    for kind, name in ((type(info), "title"), (host.engine, "sd_model_hash")):
        assert name not in vars(kind)
    assert vars(host.processing.StableDiffusionProcessing)["sd_model_hash"] is None
    assert alone(host, info)[0] == f"a cat\nSteps: 2, Model hash: {short(info)}, Model: m"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_hashing_gives_way_to_computing_on_the_same_cores_only(
    host: Host, held: Held, apply, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flux_speedup.hosts.forge.hashes.changes._cores", lambda: 16)
    info = host.checkpoint("one")
    apply(device=device)
    host.load(info)
    held.go_on.set()
    seen = []

    def passed() -> bool:
        return vars(info)["sha256"] is not None or (host.folder / "digests.json").exists()

    def sample(p: Any) -> None:
        if device == "cpu":
            time.sleep(0.2)
            seen.append(not passed())
        else:
            seen.append(not eventually(passed))

    host.request.sample = sample
    host.processing.process_images_inner(host.request(host))
    assert seen == [device == "cpu"]
    assert info.shorthash == short(info)
