"""Two checkpoints with the same text encoders: what is written into one's weights in RAM shows in no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.test_forge_written_over import Session, started


@pytest.mark.forge
def test_a_write_into_one_checkpoints_encoder_shows_in_no_other(forge_dir: Path, tmp_path: Path) -> None:
    forge, files, kept = started(forge_dir, tmp_path, 0)
    with forge:
        session = Session(forge, files, kept)
        one, two = session.image(), session.image(checkpoint="two")
        forge.post("/probe/scribble")
        assert session.image("another prompt", checkpoint="two")
        scribbled = session.image(checkpoint="two")
        assert scribbled != two  # the host's own: the model is what somebody made of it
        assert session.image() == one
        assert session.image(checkpoint="two") == two  # built anew
        session.image()
        assert any("is not kept" in line and "wrote into" in line for line in forge.our_lines())
