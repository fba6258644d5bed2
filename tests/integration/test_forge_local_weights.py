"""A real Forge with ADetailer's real library and no network: who is asked for, and what is used instead."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.integration.forge import EXTENSION, Forge
from tests.random_weights import esrgan, facts

pytestmark = pytest.mark.adetailer
PROBE = Path(__file__).resolve().parent / "adetailer_probe"
SIX = (
    "face_yolov8n.pt",
    "face_yolov8s.pt",
    "hand_yolov8n.pt",
    "person_yolov8n-seg.pt",
    "person_yolov8s-seg.pt",
    "yolov8x-worldv2.pt",
)
MEDIAPIPE = [
    "mediapipe_face_full",
    "mediapipe_face_short",
    "mediapipe_face_mesh",
    "mediapipe_face_mesh_eyes_only",
]


class WithADetailer(Forge):
    """Six weights in the WebUI's folder, two upscalers in the catalog's own, and no way out of the machine."""

    def __init__(self, checkout: Path, data: Path, **more: object) -> None:
        spec = importlib.util.find_spec("adetailer")
        assert spec is not None
        assert spec.origin is not None
        extension = data / "made" / "adetailer"
        shutil.copytree(PROBE, extension, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(Path(spec.origin).parent, extension / "adetailer")
        self.network = data / "network.txt"
        self.network.touch()
        environ = {
            "PROBE_NETWORK_LOG": str(self.network),
            "HF_HOME": str(data / "hub"),
            "HF_HUB_OFFLINE": "0",
        }
        extensions = {"flux-speedup": EXTENSION, "adetailer": extension}
        super().__init__(checkout, data, extensions=extensions, environ=environ, **more)  # type: ignore[arg-type]
        entries = [self._detector(name) for name in SIX]
        own = data / "own"
        for number, name in enumerate(("ESRGAN_4x.pth", "4x-UltraSharp.pth")):
            path = esrgan(own / "ESRGAN" / name, seed=number)
            url = (
                {"url": "https://github.com/cszn/KAIR/releases/download/v1.0/ESRGAN.pth"}
                if not number
                else {}
            )
            entries.append({"file": name, "kind": "esrgan", **url, **facts(path)})
        catalog = {"folder": str(own), "weights": entries}
        (data / "flux-speedup.json").write_text(json.dumps({"catalog": catalog}))

    def _detector(self, name: str) -> dict[str, object]:
        path = self.data / "models" / "adetailer" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"name": name}, path)
        repo = "Bingsu/yolo-world-mirror" if "world" in name else "Bingsu/adetailer"
        return {"file": name, "kind": "adetailer", "repo": repo, **facts(path)}

    def asked_for(self) -> list[str]:
        return self.network.read_text().split()


@pytest.fixture(scope="module")
def forge(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithADetailer]:
    with WithADetailer(forge_dir, tmp_path_factory.mktemp("forge")) as running:
        yield running


def test_nobody_is_asked_for_at_start_and_the_list_is_adetailers(forge: WithADetailer) -> None:
    seen = forge.get("/probe/adetailer")
    assert [host for host in forge.asked_for() if "hugging" in host or "hf-" in host] == []
    assert seen["at_import"] == seen["order"] == [*SIX, *MEDIAPIPE]
    folder = forge.data / "models" / "adetailer"
    assert [seen["mapping"][name] for name in SIX] == [str(folder / name) for name in SIX]
    assert {row["state"] for row in seen["weights"] if row["name"] in SIX} == {"redirected"}


def test_the_log_says_what_came_from_where(forge: WithADetailer) -> None:
    (line,) = [line for line in forge.our_lines() if "local weights:" in line]
    assert "redirected: face_yolov8n.pt" in line
    assert "missing: RealESRGAN_x4plus.pth" in line
    states = {o["item"]: o["state"] for o in forge.get("/flux-speedup/v1/status")["outcomes"]}
    assert (states["adetailer_weights"], states["upscaler_weights"]) == ("applied", "applied")


def test_weights_of_the_catalogs_folder_join_the_webuis_list(forge: WithADetailer) -> None:
    names = [row["name"] for row in forge.get("/sdapi/v1/upscalers")]
    assert names.count("4x-UltraSharp") == names.count("ESRGAN_4x") == 1
    assert set(names[:3]) == {"None", "Lanczos", "Nearest"}
    rest = [name.lower() for name in names[3:]]
    assert rest == sorted(rest)


@pytest.mark.parametrize("name", ["ESRGAN_4x", "4x-UltraSharp"])
def test_an_upscaler_works_from_the_local_file(forge: WithADetailer, name: str) -> None:
    upscaled = _upscale(forge, name)
    assert upscaled.size == (96, 64)
    assert upscaled.tobytes() != _upscale(forge, "Lanczos").tobytes()
    assert not any("github" in host for host in forge.asked_for())
    assert "Unable to load" not in forge.log()
    states = {row["name"]: row["state"] for row in forge.get("/probe/adetailer")["weights"]}
    assert states[f"{name}.pth"] == "redirected"


def test_after_reload_ui_the_list_is_the_same(forge_dir: Path, tmp_path: Path) -> None:
    with WithADetailer(forge_dir, tmp_path, flags=("--api",)) as forge:
        forge.reload_ui()
        seen = forge.get("/probe/adetailer")
        assert seen["at_import"] == seen["order"] == [*SIX, *MEDIAPIPE]
        assert not any("hugging" in host for host in forge.asked_for())
        names = [row["name"] for row in forge.get("/sdapi/v1/upscalers")]
        assert names.count("4x-UltraSharp") == 1


def _upscale(forge: WithADetailer, name: str) -> Image.Image:
    image = Image.radial_gradient("L").convert("RGB").resize((24, 16))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    body = {"image": base64.b64encode(buffer.getvalue()).decode(), "upscaler_1": name, "upscaling_resize": 4}
    answer = forge.post("/sdapi/v1/extra-single-image", body)["image"]
    return Image.open(io.BytesIO(base64.b64decode(answer))).convert("RGB")
