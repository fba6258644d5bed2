"""Local weights."""

from __future__ import annotations

from flux_speedup.local_models.report import WeightState
from flux_speedup.ui import local
from tests.fake_view import WEIGHTS
from tests.page import Tags


def test_every_weight_has_its_state_and_reason() -> None:
    read = Tags(local.local_card(WEIGHTS))
    assert "1 found, 1 redirected, 1 downloaded, 1 missing, 1 refused" in read.text
    badges = [badge["class"] for badge in read.classed("fsu-badge")]
    assert badges[0] == "fsu-badge fsu-applied"
    assert badges[-1] == "fsu-badge fsu-failed"
    for expected in ("face_yolov8n.pt", "6 MB", "models/ESRGAN/ESRGAN_4x.pth", "too small"):
        assert expected in read.text
    assert "No script asked" in local.local_card([])
    missing = [weight for weight in WEIGHTS if weight.state is WeightState.MISSING]
    others = [weight for weight in WEIGHTS if weight.state is not WeightState.MISSING]
    assert "fetch.py" in local.local_card(missing)
    assert "fetch.py" not in local.local_card(others)
