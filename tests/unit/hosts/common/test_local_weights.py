"""Where a WebUI's functions and lists are changed, and that each is as before afterwards."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.configuration.config import Source
from flux_speedup.hosts.common import local_weights
from flux_speedup.hosts.common import local_weights as ultralytics_release
from flux_speedup.local_models.redirect import LocalModels, made
from flux_speedup.patching.table import PatchTable, State
from tests.unit.local_models.files import CONTENT, put, sha256

URL = "https://host/ESRGAN.pth"
SIX = ("face_yolov8n.pt", "face_yolov8s.pt", "hand_yolov8n.pt")


def module(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> ModuleType:
    found = ModuleType(name)
    vars(found).update(content)
    monkeypatch.setitem(sys.modules, name, found)
    return found


@pytest.fixture
def table() -> Iterator[PatchTable]:
    found = PatchTable(logging.getLogger("flux_speedup.test"))
    yield found
    found.put_back()


@pytest.fixture
def models(tmp_path: Path) -> LocalModels:
    facts = {"bytes": len(CONTENT), "sha256": sha256(CONTENT)}
    rows: list[dict[str, object]] = [
        {"file": name, "kind": "adetailer", "repo": "Bingsu/adetailer", **facts} for name in SIX
    ]
    rows += [
        {"file": "ESRGAN_4x.pth", "kind": "esrgan", "url": URL, **facts},
        {"file": "4x-UltraSharp.pth", "kind": "esrgan", "repo": "lokCX/4x-Ultrasharp", **facts},
    ]
    sources = [Source("own.json", {"catalog": {"folder": str(tmp_path / "own"), "weights": rows}})]
    return made(sources, lambda _: [], None)


@pytest.mark.parametrize("home", ["modules.util", "modules.modelloader"])
def test_the_loader_is_replaced_where_a_webui_has_it(
    monkeypatch: pytest.MonkeyPatch, table: PatchTable, models: LocalModels, tmp_path: Path, home: str
) -> None:
    def load_file_from_url(url: str, *, model_dir: str) -> str:
        return "downloaded"

    modules = {name: module(monkeypatch, name) for name in local_weights.LOADERS}
    modules["modules.modelloader"].load_file_from_url = load_file_from_url  # type: ignore[attr-defined]
    modules[home].load_file_from_url = load_file_from_url  # type: ignore[attr-defined]
    path = put(tmp_path / "own" / "ESRGAN", "ESRGAN_4x.pth")
    for _ in range(2):  # as after "Reload UI"
        table.add("item", "Item", "why", local_weights.upscaler_changes(lambda: models))
        assert table.outcomes()[0].state is State.APPLIED
        assert modules["modules.modelloader"].load_file_from_url(URL, model_dir="x") == str(path)
        assert modules[home].load_file_from_url(URL, model_dir="x") == str(path)
        table.put_back()
        assert modules[home].load_file_from_url is load_file_from_url
        assert modules["modules.modelloader"].load_file_from_url is load_file_from_url


def test_where_models_cannot_be_made_the_host_goes_on(
    monkeypatch: pytest.MonkeyPatch, table: PatchTable, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> LocalModels:
        raise RuntimeError("odd")

    common = module(monkeypatch, "adetailer.common", hf_download=lambda file: f"asked for {file}")
    table.add("item", "Item", "why", local_weights.adetailer_changes(broken))
    with caplog.at_level(logging.WARNING, "flux_speedup"):
        assert common.hf_download("face_yolov8n.pt") == "asked for face_yolov8n.pt"
    assert "not looked for" in caplog.text


@pytest.mark.parametrize("release", ["8.3.41", "8.3.42", "8.3.45", "8.3.46"])
def test_a_release_with_a_miner_is_one_warning(
    monkeypatch: pytest.MonkeyPatch,
    table: PatchTable,
    models: LocalModels,
    caplog: pytest.LogCaptureFixture,
    release: str,
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: release)
    module(monkeypatch, "adetailer.common", hf_download=lambda file: file)
    with caplog.at_level(logging.WARNING, "flux_speedup"):
        table.add("item", "Item", "why", local_weights.adetailer_changes(lambda: models))
    (record,) = caplog.records
    assert f"ultralytics {release}" in record.getMessage()
    assert release in table.outcomes()[0].why
    assert table.outcomes()[0].state is State.APPLIED


def test_other_releases_and_none_are_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    for release in ("8.3.40", "8.3.43", "8.3.44", "8.3.47", "8.4.190"):
        monkeypatch.setattr(metadata, "version", lambda _, found=release: found)
        assert ultralytics_release.why_bad() is None

    def missing(_: str) -> str:
        raise metadata.PackageNotFoundError("ultralytics")

    monkeypatch.setattr(metadata, "version", missing)
    assert ultralytics_release.why_bad() is None


def test_folders_come_from_flags_paths_and_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert local_weights.places("esrgan") == []
    module(monkeypatch, "modules.paths_internal", models_path=str(tmp_path / "models"))
    flags = SimpleNamespace(esrgan_models_path=str(tmp_path / "given"), realesrgan_models_path=None)
    options = SimpleNamespace(data={"ad_extra_models_dir": f"{tmp_path / 'a'}||{tmp_path / 'b'}|\0"})
    module(monkeypatch, "modules.shared", cmd_opts=flags, opts=options)
    assert local_weights.places("esrgan") == [tmp_path / "given", tmp_path / "models" / "ESRGAN"]
    assert local_weights.places("realesrgan") == [tmp_path / "models" / "RealESRGAN"]
    own = [tmp_path / "models" / "adetailer", tmp_path / "a", tmp_path / "b"]
    assert local_weights.places("adetailer") == own
    assert local_weights.places("hats") == [tmp_path / "models" / "hats"]


def with_mapping(monkeypatch: pytest.MonkeyPatch, mapping: dict[str, str], **flags: bool) -> None:
    script = SimpleNamespace(module=SimpleNamespace(model_mapping=mapping, ADETAILER="ADetailer"))
    other = SimpleNamespace(module=SimpleNamespace(model_mapping={"theirs": "x"}))
    module(monkeypatch, "modules.scripts", scripts_data=[other, script])
    module(monkeypatch, "modules.shared", cmd_opts=SimpleNamespace(**flags))


def complete(table: PatchTable, models: LocalModels, item: str) -> None:
    table.add(item, "Item", "why", [])
    table.extend(item, [local_weights.completing_changes(models)[item]])


def test_a_map_made_before_gets_names_and_order_of_the_redirect(
    monkeypatch: pytest.MonkeyPatch, table: PatchTable, models: LocalModels, tmp_path: Path
) -> None:
    paths = {name: str(put(tmp_path / "own" / "adetailer", name)) for name in SIX[:2]}
    before = {SIX[2]: "cached", "mediapipe_face_full": "m", "own.pt": "o", SIX[1]: "behind"}
    mapping = dict(before)
    with_mapping(monkeypatch, mapping)
    complete(table, models, "adetailer_weights")
    assert list(mapping) == [*SIX, "mediapipe_face_full", "own.pt"]
    assert mapping[SIX[0]] == paths[SIX[0]]
    assert (mapping[SIX[1]], mapping[SIX[2]]) == ("behind", "cached")
    table.put_back()
    assert list(mapping.items()) == list(before.items())


def test_a_map_that_is_complete_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, table: PatchTable, models: LocalModels
) -> None:
    mapping = {SIX[1]: "cached", "mediapipe_face_full": "m", "own.pt": "o"}
    before = list(mapping.items())
    with_mapping(monkeypatch, mapping)
    complete(table, models, "adetailer_weights")
    assert list(mapping.items()) == before


def test_a_user_who_turned_hugging_face_off_keeps_the_map(
    monkeypatch: pytest.MonkeyPatch, table: PatchTable, models: LocalModels, tmp_path: Path
) -> None:
    put(tmp_path / "own" / "adetailer", SIX[0])
    mapping = {"mediapipe_face_full": "m"}
    with_mapping(monkeypatch, mapping, ad_no_huggingface=True)
    complete(table, models, "adetailer_weights")
    assert mapping == {"mediapipe_face_full": "m"}


def test_upscalers_outside_the_webuis_folders_join_its_list_in_its_order(
    monkeypatch: pytest.MonkeyPatch, table: PatchTable, models: LocalModels, tmp_path: Path
) -> None:
    class UpscalerData:
        def __init__(self, name: str, path: str | None, scaler: Any, scale: int = 4) -> None:
            self.name, self.data_path, self.scaler, self.scale = name, path, scaler, scale

    class UpscalerLanczos:
        name, scalers = "Lanczos", ()

    esrgan, other = SimpleNamespace(name="ESRGAN", scalers=[]), SimpleNamespace(name="DAT", scalers=[])
    esrgan.scalers.append(UpscalerData("ESRGAN_4x", URL, esrgan))
    first = UpscalerData("Lanczos", None, UpscalerLanczos())
    listed = [first, UpscalerData("DAT", "d", other), esrgan.scalers[0]]
    module(monkeypatch, "modules.upscaler", UpscalerData=UpscalerData, UpscalerLanczos=UpscalerLanczos)
    module(monkeypatch, "modules.shared", sd_upscalers=listed)
    path = put(tmp_path / "own" / "ESRGAN", "4x-UltraSharp.pth")
    put(tmp_path / "own" / "ESRGAN", "ESRGAN_4x.pth")
    complete(table, models, "upscaler_weights")
    assert [data.name for data in listed] == ["Lanczos", "4x-UltraSharp", "DAT", "ESRGAN_4x"]
    assert (listed[1].data_path, listed[1].scaler, listed[1].scale) == (str(path), esrgan, 4)
    assert [data.name for data in esrgan.scalers] == ["ESRGAN_4x", "4x-UltraSharp"]
    table.put_back()
    assert [data.name for data in listed] == ["Lanczos", "DAT", "ESRGAN_4x"]
    assert len(esrgan.scalers) == 1


def test_a_webui_without_upscalers_or_scripts_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, table: PatchTable, models: LocalModels
) -> None:
    for name in ("modules.scripts", "modules.shared", "modules.upscaler"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for item in local_weights.completing_changes(models):
        complete(table, models, item)
    assert {outcome.state for outcome in table.outcomes()} == {State.APPLIED}
