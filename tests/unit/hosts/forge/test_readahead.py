"""What is read while the WebUI starts, and that digests come along, on a stand-in for the host's modules."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.forge import digests as forge_digests
from flux_speedup.hosts.forge import likely as forge_likely
from flux_speedup.hosts.forge import readahead as forge_readahead
from flux_speedup.hosts.forge.readahead import Background
from flux_speedup.patching.table import PatchTable, State
from flux_speedup.storage.sidecar import Sidecar
from flux_speedup.weights.files.file_digests import FileDigests
from flux_speedup.weights.files.readahead import ReadAhead
from tests.waiting import PATIENCE_S


class Host:
    """Modules by the host's names, and a models folder with a checkpoint, a text encoder and a VAE."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.files = [
            folder / f"{name}.safetensors" for name in ("models/model", "text_encoder/t5", "VAE/vae")
        ]
        for path in self.files:
            path.parent.mkdir()
            path.write_bytes(os.urandom(10_000))
        self.info = SimpleNamespace(filename=str(self.files[0]), sha256=None)
        self.opts = SimpleNamespace(
            sd_model_checkpoint="model", forge_additional_modules=[str(path) for path in self.files[:0:-1]]
        )
        self.flags = SimpleNamespace(no_hashing=False)
        self.computed: list[str] = []
        self.entry = self._add(patch, "modules_forge.main_entry", forge_main_entry=self._main_entry)
        self.hashes = self._add(patch, "modules.hashes", calculate_sha256_real=self._compute)
        self.built = True
        self.data = SimpleNamespace(forge_loading_parameters={})
        self.models = self._add(
            patch,
            "modules.sd_models",
            checkpoint_aliases={"model": self.info},
            checkpoints_list={"model": self.info},
            model_data=self.data,
            forge_model_reload=lambda: ("a model", self.built),
        )
        self._add(patch, "modules.processing", forge_model_reload=lambda: ("a model", self.built))
        self._add(patch, "modules.shared", opts=self.opts, cmd_opts=self.flags)

    @staticmethod
    def _add(patch: pytest.MonkeyPatch, name: str, **values: Any) -> Any:
        made: Any = ModuleType(name)
        vars(made).update(values)
        patch.setitem(sys.modules, name, made)
        return made

    def _main_entry(self) -> str:
        self.opts.sd_model_checkpoint = "model"
        return "built"

    def _compute(self, filename: str) -> str:
        self.computed.append(filename)
        return hashlib.sha256(Path(filename).read_bytes()).hexdigest()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    return Host(monkeypatch, tmp_path)


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forge_readahead, "is_cold", lambda path: True)


@pytest.fixture
def digests(tmp_path: Path) -> FileDigests:
    return FileDigests(Sidecar(tmp_path / "digests.json"))


@pytest.fixture
def apply(digests: FileDigests) -> Iterator[Callable[[Background], PatchTable]]:
    table = PatchTable(logging.getLogger("flux_speedup.test"))

    def add(background: Background) -> PatchTable:
        table.add("digest", "title", "why", forge_digests.changes(digests))
        table.add("read_ahead", "title", "why", background.changes())
        assert {outcome.state for outcome in table.outcomes()} == {State.APPLIED}
        return table

    yield add
    table.put_back()


def read(background: Background) -> list[str]:
    reading = background._reading
    assert isinstance(reading, ReadAhead)
    assert reading.wait(PATIENCE_S)
    return [outcome.path.stem for outcome in reading.outcomes if outcome.complete]


@pytest.mark.usefixtures("cold")
def test_the_selected_model_is_read_and_its_digest_is_there_when_asked(
    host: Host, digests: FileDigests, apply: Callable[[Background], PatchTable]
) -> None:
    background = Background(digests, digests.gate)
    apply(background)
    assert read(background) == ["t5", "model", "vae"]
    expected = hashlib.sha256(host.files[0].read_bytes()).hexdigest()
    assert host.hashes.calculate_sha256_real(str(host.files[0])) == expected
    assert host.computed == []
    # Nobody asks for those of the others: they are computed when somebody does, once.
    for _ in range(2):
        host.hashes.calculate_sha256_real(str(host.files[1]))
    assert host.computed == [str(host.files[1])]


def test_what_is_warm_is_read_for_its_digest_only(
    host: Host,
    digests: FileDigests,
    apply: Callable[[Background], PatchTable],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forge_readahead, "is_cold", lambda path: False)
    background = Background(digests, digests.gate)
    apply(background)
    assert read(background) == []
    assert host.hashes.calculate_sha256_real(str(host.files[0]))
    assert host.computed == []


@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize("why", ["the host has it", "no hashing", "we have it", "switched off"])
def test_no_digest_that_nobody_needs(
    host: Host, digests: FileDigests, apply: Callable[[Background], PatchTable], why: str
) -> None:
    if why == "the host has it":
        host.info.sha256 = "a" * 64
    host.flags.no_hashing = why == "no hashing"
    if why == "we have it":
        digests.computed(host.files[0], lambda: "b" * 64)
    background = Background(None if why == "switched off" else digests, digests.gate)
    apply(background)
    assert read(background) == ["t5", "model", "vae"]
    assert digests.known(host.files[0]) == ("b" * 64 if why == "we have it" else None)


@pytest.mark.usefixtures("cold")
def test_where_no_checkpoint_is_selected_it_begins_when_the_host_has_chosen(
    host: Host, digests: FileDigests, apply: Callable[[Background], PatchTable]
) -> None:
    host.opts.sd_model_checkpoint = None
    background = Background(digests, digests.gate)
    apply(background)
    assert background._reading is None
    with digests.gate.loading():
        assert host.entry.forge_main_entry() == "built"
    assert read(background) == ["t5", "model", "vae"]


@pytest.mark.usefixtures("cold")
def test_missing_files_are_left_out_and_reload_ui_begins_nothing_again(
    host: Host, digests: FileDigests, apply: Callable[[Background], PatchTable]
) -> None:
    host.files[1].unlink()
    background = Background(digests, digests.gate)
    apply(background).put_back()
    first = background._reading
    apply(background)
    assert background._reading is first
    assert "t5" not in read(background)


@pytest.mark.usefixtures("cold")
def test_put_back_stops_it(
    host: Host,
    digests: FileDigests,
    apply: Callable[[Background], PatchTable],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    background = Background(digests, digests.gate)
    with digests.gate.loading():
        apply(background).put_back()
    assert read(background) == []
    assert host.hashes.calculate_sha256_real(str(host.files[0]))
    assert host.computed == [str(host.files[0])]


@pytest.mark.usefixtures("cold")
def test_a_model_that_was_built_is_read_while_its_text_encoders_compute(
    host: Host, digests: FileDigests, apply: Callable[[Background], PatchTable]
) -> None:
    background = Background(digests, digests.gate)
    apply(background)
    assert read(background) == ["t5", "model", "vae"]
    other = host.files[0].with_name("other.safetensors")
    other.write_bytes(os.urandom(10_000))
    host.data.forge_loading_parameters = {
        "checkpoint_info": SimpleNamespace(filename=str(other)),
        "additional_modules": host.opts.forge_additional_modules,
    }
    host.built = False
    assert host.models.forge_model_reload() == ("a model", False)
    assert read(background) == ["t5", "model", "vae"]
    host.built = True
    with digests.gate.computing(), digests.gate.loading():
        for module in ("modules.sd_models", "modules.processing"):
            assert sys.modules[module].forge_model_reload() == ("a model", True)
            reading = background._reading
        assert reading is background._reading, "the same files are read once"
        assert reading is not None
        assert reading.outcomes == []
    assert read(background) == ["t5", "other", "vae"]
    assert not digests.known(other), "the host asks for it itself"


@pytest.mark.usefixtures("cold")
def test_a_reading_gives_way_to_loads_and_not_to_computing(
    host: Host, digests: FileDigests, apply: Callable[[Background], PatchTable]
) -> None:
    background = Background(digests, digests.gate)
    with digests.gate.computing():
        apply(background)
        assert read(background) == ["t5", "model", "vae"]


@pytest.mark.parametrize("many", [True, False])
def test_other_checkpoints_that_are_in_ram_are_hashed_ahead(
    host: Host,
    digests: FileDigests,
    apply: Callable[[Background], PatchTable],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    many: bool,
) -> None:
    monkeypatch.setattr(forge_likely, "cores", lambda: 8 if many else 2)
    monkeypatch.setattr(forge_likely, "POLL_S", 0.01)
    names = ("warm", "cold", "known", "gone")
    files = {name: tmp_path / f"{name}.safetensors" for name in names}
    for name in names[:3]:
        files[name].write_bytes(os.urandom(10_000))
    for name, file in files.items():
        told = SimpleNamespace(filename=str(file), sha256="told" if name == "known" else None)
        host.models.checkpoints_list[name] = told
    monkeypatch.setattr(forge_readahead, "is_cold", lambda path: path.stem == "cold")
    background = Background(digests, digests.gate)
    apply(background)
    assert background._likely is not None
    background._likely.thread.join(PATIENCE_S)
    assert digests.known(files["warm"]) == hashlib.sha256(files["warm"].read_bytes()).hexdigest()
    assert [name for name in names if digests.known(files[name])] == ["warm"]


class Prepared:
    """What the first load is said to read, and whether it still will."""

    def __init__(self) -> None:
        self.files: list[list[str]] = []
        self.still: Callable[[], bool] = lambda: False

    def __call__(self, files: Sequence[Path], still: Callable[[], bool]) -> None:
        self.files.append([path.stem for path in files])
        self.still = still


@pytest.mark.parametrize("warm", [True, False])
def test_what_was_read_is_prepared_until_another_model_is_selected(
    host: Host,
    digests: FileDigests,
    apply: Callable[[Background], PatchTable],
    monkeypatch: pytest.MonkeyPatch,
    warm: bool,
) -> None:
    monkeypatch.setattr(forge_readahead, "is_cold", lambda path: not warm)
    prepared = Prepared()
    background = Background(digests, digests.gate, prepared)
    with digests.gate.loading():
        apply(background)
        assert warm or prepared.files == [], "not before they are in RAM"
    read(background)
    assert prepared.files == [["t5", "model", "vae"]]
    host.info.sha256 = "a" * 64  # known by now
    assert prepared.still()
    host.models.checkpoint_aliases.clear()  # while the list is made anew
    assert prepared.still()
    host.models.checkpoint_aliases["model"] = host.info
    host.opts.forge_additional_modules = host.opts.forge_additional_modules[:1]
    assert not prepared.still()


@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize("why", ["put back", "a model was built"])
def test_nothing_is_prepared_for_a_load_that_is_not_the_first(
    host: Host, digests: FileDigests, apply: Callable[[Background], PatchTable], why: str
) -> None:
    prepared = Prepared()
    background = Background(digests, digests.gate, prepared)
    with digests.gate.loading():
        table = apply(background)
        first = background._reading
        if why == "put back":
            table.put_back()
        else:
            host.data.forge_loading_parameters = {"checkpoint_info": host.info, "additional_modules": []}
            host.models.forge_model_reload()
    assert first is not None
    assert first.wait(PATIENCE_S)
    read(background)
    assert prepared.files == []
