"""Kept models."""

from __future__ import annotations

from flux_speedup.hosts.common.inside import Model
from flux_speedup.ui import models
from tests.fake_view import MODELS, NASTY
from tests.page import Tags


def test_kept_models_can_be_dropped_and_the_one_in_use_cannot() -> None:
    read = Tags(models.models_card(MODELS))
    (button,) = read.classed("fsu-press")
    assert button["data-fsu-do"] == f"drop:{models.token(MODELS[1])}"
    for expected in ("33.8 GB on the card", "33.6 GB in files", "920 MB in RAM", "in use", "kept"):
        assert expected in read.text
    for expected in (
        "transformer: bf16 23.7 GB from the file, bf16 76 MB from RAM",
        "GGUF Q8_0 5.1 GB from the file, made on the card, NF4 520 MB moved by the WebUI (quantised by the WebUI",
    ):
        assert expected in read.text
    assert len(read.classed("fsu-slow")) == 1
    assert "No model is built" in models.models_card([])


def test_a_token_is_the_keys_own_and_harmless() -> None:
    tokens = {models.token(Model(name, "", "kept", 0, 0, 0)) for name in NASTY}
    assert len(tokens) == len(NASTY)
    assert all(token.isalnum() and token.isascii() for token in tokens)
