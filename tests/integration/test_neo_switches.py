"""Forge Neo goes from checkpoint to checkpoint and back: nothing is built twice, and no image changes."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.integration.forge import EXTENSION, Forge
from tests.integration.other_hosts import tiny_neo
from tests.integration.switching import there_and_back
from tests.integration.test_forge_images import COMMON
from tests.integration.test_neo_weights import EVERYTHING_FITS, ONE_AT_A_TIME

OURS = {"flux-speedup": EXTENSION}


class Session:
    """Requests to one Forge Neo, and what each of them cost."""

    def __init__(self, webui: Forge, ours: bool) -> None:
        self.webui, self.ours = webui, ours
        self.images: list[str] = []
        self._seen = self._counts()

    def image(self, checkpoint: str, prompt: str = "a cat", **more: Any) -> dict[str, int]:
        settings = {"sd_model_checkpoint": f"tiny-{checkpoint}.safetensors"}
        request = {**COMMON, "prompt": prompt, "override_settings": settings, **more}
        answer = self.webui.post("/sdapi/v1/txt2img", request)
        self.images.append(hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest())
        before, self._seen = self._seen, self._counts()
        return {name: count - before[name] for name, count in self._seen.items()}

    def checkpoints(self) -> list[tuple[str, str]]:
        """(file, source) of every checkpoint that became the model, the oldest first."""
        events = self.webui.get("/flux-speedup/v1/stats?limit=1000&kind=checkpoint")["events"]
        return [(event["what"].split(".")[0], event["source"]) for event in reversed(events)]

    def _counts(self) -> dict[str, int]:
        found: dict[str, int] = self.webui.get("/probe/counts")
        return found


def switches(session: Session) -> dict[str, dict[str, int]]:
    """There and back, with LoRAs before and after a switch."""
    cost = {"first": session.image("one"), "again": session.image("one", seed=3)}
    cost["another"] = session.image("two")
    cost["another again"] = session.image("two", seed=3)
    there_and_back(session.image)
    session.image("two", seed=3)
    return cost


@pytest.mark.parametrize("gib", [EVERYTHING_FITS, ONE_AT_A_TIME])
def test_a_switch_back_builds_nothing_and_no_request_unloads_or_encodes_for_nothing(
    neo_dir: Path, tmp_path: Path, gib: str
) -> None:
    with tiny_neo(neo_dir, tmp_path / "without", gib, {}) as webui:
        alone = Session(webui, ours=False)
        costs_alone = switches(alone)
    with tiny_neo(neo_dir, tmp_path / "with", gib, OURS) as webui:
        session = Session(webui, ours=True)
        costs = switches(session)
        checkpoints, said = session.checkpoints(), webui.our_lines()
        models = webui.get("/flux-speedup/v1/status")
    assert session.images == alone.images
    assert len(set(session.images)) == 9, "three of the twelve are requests made before"
    assert [what for what, source in checkpoints if source == "file"] == ["tiny-one", "tiny-two"], said
    assert len(checkpoints) > 5
    assert not [line for line in said if "falling back" in line or "not kept" in line or "failed" in line]
    assert costs["another again"] == costs["again"] == {"encodings": 0, "unloads": 0}
    assert costs_alone["another again"] == {"encodings": 1, "unloads": 1}, "it would show nothing"
    states = {each["item"]: each["state"] for each in models["outcomes"]}
    for item in ("settings_file", "weights", "checkpoints", "needless_unloads"):
        assert states[item] == "applied", item
