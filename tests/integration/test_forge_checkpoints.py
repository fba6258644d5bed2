"""Checkpoints used before are kept by a real Forge: the same bytes, and a new build only where it is due."""

from __future__ import annotations

import base64
import hashlib
import os
import urllib.error
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.integration import tiny_flux
from tests.integration.forge import EXTENSION, Forge
from tests.integration.switching import there_and_back
from tests.integration.tiny_flux import COMMON


@dataclass(frozen=True)
class Card:
    """What Forge believes in: a card of so many MB, or none; and its own flags."""

    size: float = 0
    inference: int = 0
    flags: tuple[str, ...] = ()

    def environ(self) -> dict[str, str]:
        if not self.size:
            return {"PROBE_TINY": "1"}
        found = {"PROBE_TINY": "1", "PROBE_DEVICE": "1", "PROBE_CARD_GIB": str(self.size / 1024)}
        return {**found, "PROBE_INFERENCE_MB": str(self.inference)}


CARDS = {
    "no card": Card(),
    "large": Card(80 * 1024, 1024, ("--flux-speedup-tier", "large")),
    "swapping": Card(36, 8),
}


@dataclass
class Session:
    """One Forge with tiny models; what it answered and what the extension said."""

    forge: Forge
    files: dict[str, Path]
    seen: list[str] = field(default_factory=list)

    def image(self, checkpoint: str, prompt: str = "a cat", **more: Any) -> str:
        settings = {"sd_model_checkpoint": f"tiny-{checkpoint}.safetensors"}
        request = {**COMMON, "prompt": prompt, "override_settings": settings, **more}
        answer = self.forge.post("/sdapi/v1/txt2img", request)
        self.seen.append(hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest())
        return self.seen[-1]

    def fails(self, checkpoint: str, **more: Any) -> None:
        with pytest.raises(urllib.error.HTTPError) as refused:
            self.image(checkpoint, **more)
        refused.value.close()

    def checkpoints(self) -> list[tuple[str, str]]:
        """(file, source) of every checkpoint that became the model, the oldest first."""
        return [(event["what"].split(".")[0], event["source"]) for event in reversed(self._events())]

    def bytes_built(self) -> set[int]:
        return {event["bytes"] for event in self._events() if event["source"] == "file"}

    def _events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.forge.get("/flux-speedup/v1/stats?limit=1000&kind=checkpoint")[
            "events"
        ]
        return found


def start(
    forge_dir: Path, data: Path, card: Card, *, ours: bool = True, flags: Sequence[str] = ()
) -> tuple[Forge, dict[str, Path]]:
    files = tiny_flux.write_all(data / "models")
    options = tiny_flux.options(files)
    forge = Forge(
        forge_dir,
        data,
        flags=("--nowebui", "--api", "--unet-in-bf16", *((*card.flags, *flags) if ours else ())),
        extensions={"flux-speedup": EXTENSION} if ours else {},
        options=options,
        environ=card.environ(),
    )
    return forge, files


def switches(session: Session) -> None:
    session.image("one")
    session.image("two")
    there_and_back(session.image)
    session.image("two", seed=2)


@pytest.fixture(scope="module")
def hosts_own(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What Forge alone answers; where its weights are does not change it."""
    forge, files = start(forge_dir, tmp_path_factory.mktemp("without"), CARDS["no card"], ours=False)
    with forge:
        alone = Session(forge, files)
        switches(alone)
    assert len(set(alone.seen)) == 8, "three of the ten are one request"
    return alone.seen


def check_switches(session: Session, hosts_own: list[str]) -> None:
    """A switch back builds nothing and changes no image; each load is one event; nothing that is kept is in use."""
    forge = session.forge
    switches(session)
    assert session.seen == hosts_own
    checkpoints = session.checkpoints()
    built = [what for what, source in checkpoints if source == "file"]
    assert built == ["tiny-one", "tiny-two"], forge.our_lines()
    assert len(checkpoints) > 5
    parts = [session.files[name].stat().st_size for name in ("one", "t5", "clip", "vae")]
    assert session.bytes_built() == {sum(parts)}
    assert not [line for line in forge.our_lines() if "falling back" in line or "not kept" in line]
    kept = forge.get("/probe/checkpoints")
    assert [Path(each["file"]).stem for each in kept] == ["tiny-one"]
    for each in kept:
        assert [each[name] for name in ("away", "resident", "shared", "loras", "merged")] == [0] * 5
        assert 0 < each["ram"] < 0.8 * sum(file.stat().st_size for file in session.files.values())


@pytest.mark.forge
@pytest.mark.parametrize("name", ["no card", "swapping"])
def test_a_switch_back_builds_nothing_and_changes_no_image(
    forge_dir: Path, tmp_path: Path, hosts_own: list[str], name: str
) -> None:
    forge, files = start(forge_dir, tmp_path, CARDS[name])
    with forge:
        check_switches(Session(forge, files), hosts_own)


@pytest.mark.forge
def test_what_a_build_depends_on_makes_a_new_one_and_what_failed_is_not_kept(
    forge_dir: Path, tmp_path: Path, hosts_own: list[str]
) -> None:
    forge, files = start(forge_dir, tmp_path, CARDS["large"], flags=("--flux-speedup-checkpoints-kept", "1"))
    with forge:
        check_switches(Session(forge, files), hosts_own)
        check_builds(Session(forge, files), tmp_path)


def check_builds(session: Session, data: Path) -> None:
    forge, files = session.forge, session.files
    folder = files["one"].parent
    save_file({"nobody.knows": torch.zeros(64)}, folder / "tiny-broken.safetensors")
    tiny_flux.write(folder / "tiny-three.safetensors", tiny_flux.transformer(), 9, torch.bfloat16)
    forge.post("/sdapi/v1/refresh-checkpoints")
    one, two = session.image("one"), session.image("two")

    def next_is(checkpoint: str, source: str, expected: str | None = None, **more: Any) -> None:
        assert session.image(checkpoint, **more) == expected or expected is None
        assert session.checkpoints()[-1] == (f"tiny-{checkpoint}", source), forge.our_lines()

    next_is("one", "kept", one)
    # One is kept besides the one in use.
    next_is("three", "file")
    next_is("two", "file", two)
    next_is("three", "kept")
    # A file that has changed.
    os.utime(files["two"], ns=(1, files["two"].stat().st_mtime_ns + 10**9))
    next_is("two", "file", two)
    assert "a file it was built from has changed" in "".join(forge.our_lines())
    # A configuration file beside the checkpoint.
    next_is("one", "file", one)
    (folder / "tiny-two.yaml").write_text("model: {params: {}}")
    next_is("two", "file", two)
    next_is("one", "kept", one)
    # An embedding more.
    (data / "embeddings").mkdir(exist_ok=True)
    save_file({"clip_l": torch.zeros(1, 768)}, data / "embeddings" / "none.safetensors")
    next_is("two", "file", two)
    # The emphasis, which the text encoders are built with.
    next_is("one", "file", one)
    forge.post("/sdapi/v1/options", {"emphasis": "No norm"})
    next_is("two", "file", two)
    forge.post("/sdapi/v1/options", {"emphasis": "Original"})
    next_is("one", "kept", one)
    next_is("two", "file", two)
    # A request that fails.
    next_is("one", "kept", one)
    session.fails("one", refiner_checkpoint="nobody", refiner_switch_at=0.5)
    next_is("two", "kept", two)
    next_is("one", "file", one)
    # A request that fails, and one that does not.
    session.fails("one", refiner_checkpoint="nobody", refiner_switch_at=0.5)
    session.image("one")
    next_is("two", "kept", two)
    next_is("one", "kept", one)
    # A checkpoint that cannot be loaded: the next request for the one before works.
    session.fails("broken")
    next_is("one", "kept", one)
    # Off: nothing is kept, and the host's own way works from there.
    forge.post("/sdapi/v1/options", {"flux_speedup_enabled": "off"})
    assert forge.get("/probe/checkpoints") == []
    loads = forge.log().count("Loading Model: ")
    assert (session.image("two"), session.image("one")) == (two, one)
    assert forge.log().count("Loading Model: ") == loads + 2
