"""ADetailer's own library from PyPI: what it asks for, what it lists, and a detection with a real detector."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from flux_speedup.configuration.config import Source
from flux_speedup.hosts.common import local_weights
from flux_speedup.local_models.redirect import LocalModels, made
from flux_speedup.patching.table import PatchTable, State
from tests.random_weights import facts

pytestmark = pytest.mark.adetailer
SHIPPED = Path(__file__).resolve().parents[2] / "extensions" / "flux-speedup" / "config.json"
SIX = [
    row["file"] for row in json.loads(SHIPPED.read_text())["catalog"]["weights"] if row["kind"] == "adetailer"
]
MEDIAPIPE = [f"mediapipe_face_{name}" for name in ("full", "short", "mesh", "mesh_eyes_only")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The six files, made on the spot."""
    place = tmp_path / "adetailer"
    place.mkdir()
    for name in SIX:
        torch.save({"name": name}, place / name)
    return place


@pytest.fixture
def table() -> Iterator[PatchTable]:
    found = PatchTable(logging.getLogger("flux_speedup.test"))
    yield found
    found.put_back()


def asked_of_hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that the library wants from Hugging Face, which is not there (its own attempts take 46 s)."""
    wanted: list[str] = []

    def hf_hub_download(repo: str, file: str, **_: object) -> str:
        wanted.append(file)
        raise OSError("no network")

    common = importlib.import_module("adetailer.common")
    monkeypatch.setattr(common, "hf_hub_download", hf_hub_download)
    return wanted


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody has imported ADetailer's library yet, and the Hugging Face cache is empty."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    # Not adetailer.args: pydantic refuses its validators a second time.
    for name in ("adetailer", "adetailer.common", "adetailer.mediapipe", "adetailer.ultralytics"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def models_of(folder: Path, names: list[str] = SIX) -> LocalModels:
    """With the facts of the files that were made, in the shape of a user's own configuration."""
    rows = [
        {
            "file": name,
            "kind": "adetailer",
            "repo": "Bingsu/yolo-world-mirror" if "world" in name else "Bingsu/adetailer",
            **facts(folder / name),
        }
        for name in SIX
    ]
    sources = [Source("own.json", {"catalog": {"weights": rows}})]
    for name in set(SIX) - set(names):
        (folder / name).unlink()
    return made(sources, lambda _: [folder], None)


def arm(table: PatchTable, models: LocalModels) -> None:
    table.add("adetailer_weights", "Weights", "test", local_weights.adetailer_changes(lambda: models))


def test_with_all_six_there_nobody_is_asked_and_the_list_is_as_ever(
    folder: Path, library: None, table: PatchTable, asked: list[str]
) -> None:
    models = models_of(folder)
    arm(table, models)
    adetailer = importlib.import_module("adetailer")
    assert table.outcomes()[0].state is State.APPLIED
    found = adetailer.get_models(folder)
    assert asked == []
    assert list(found) == [*SIX, *MEDIAPIPE]
    assert [found[name] for name in SIX] == [str(folder / name) for name in SIX]
    assert {row.state.value for row in models.report()} == {"redirected"}


def test_with_three_there_only_the_others_are_asked_for(
    folder: Path, library: None, table: PatchTable, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = SIX[::2]
    models = models_of(folder, here)
    arm(table, models)
    wanted = asked_of_hub(monkeypatch)
    found = importlib.import_module("adetailer").get_models(folder)
    assert set(wanted) == set(SIX) - set(here)
    assert list(found) == [*here, *MEDIAPIPE]
    states = {row.name: row.state.value for row in models.report()}
    assert {states[name] for name in here} == {"redirected"}
    assert {states[name] for name in set(SIX) - set(here)} == {"missing"}


def test_without_us_all_six_are_asked_for(
    folder: Path, library: None, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = asked_of_hub(monkeypatch)
    found = importlib.import_module("adetailer").get_models(folder)
    assert set(wanted) == set(SIX)
    assert list(found)[:4] == MEDIAPIPE


def test_with_hugging_face_turned_off_by_the_user_the_order_is_the_users(
    folder: Path, library: None, table: PatchTable, asked: list[str]
) -> None:
    arm(table, models_of(folder))
    found = importlib.import_module("adetailer").get_models(folder, huggingface=False)
    assert list(found)[:4] == MEDIAPIPE
    assert sorted(list(found)[4:]) == sorted(SIX)


def test_put_back_the_library_is_as_it_was(
    folder: Path, library: None, table: PatchTable, asked: list[str]
) -> None:
    common = importlib.import_module("adetailer.common")
    original = common.hf_download
    arm(table, models_of(folder))
    kept = common.hf_download
    assert kept(SIX[0]) == str(folder / SIX[0])
    table.put_back()
    assert common.hf_download is original
    assert kept(SIX[0], check_remote=False) == "INVALID"


def test_a_file_with_another_sha256_is_refused_and_the_network_is_asked(
    folder: Path,
    library: None,
    table: PatchTable,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    models = models_of(folder)
    whole = (folder / SIX[0]).read_bytes()
    (folder / SIX[0]).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    arm(table, models)
    wanted = asked_of_hub(monkeypatch)
    common = importlib.import_module("adetailer.common")
    with caplog.at_level(logging.WARNING, "flux_speedup"):
        assert common.hf_download(SIX[0]) == "INVALID"
    assert set(wanted) == {SIX[0]}
    assert "its sha256 is" in caplog.text
    assert SIX[0] in caplog.text


def test_a_real_detector_from_the_local_file_detects(
    folder: Path, library: None, table: PatchTable, asked: list[str]
) -> None:
    from ultralytics import YOLO

    made_here = folder / "face_yolov8n.pt"
    torch.manual_seed(0)
    YOLO("yolov8n.yaml").save(made_here)
    arm(table, models_of(folder))
    adetailer = importlib.import_module("adetailer")
    found = adetailer.get_models(folder)
    predict = importlib.import_module("adetailer.ultralytics").ultralytics_predict
    image = Image.effect_noise((160, 160), 80).convert("RGB")
    seen = predict(found["face_yolov8n.pt"], image, confidence=0.0001, device="cpu")
    assert found["face_yolov8n.pt"] == str(made_here)
    assert len(seen.bboxes) == len(seen.masks) == len(seen.confidences) > 0
    assert seen.preview.size == image.size
    assert asked == []
