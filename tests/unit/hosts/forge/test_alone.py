"""The host's own rules of what is on its card, replayed: whole models leave, those used longest ago first."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from flux_speedup.hosts.forge.alone import Alone, Load


@dataclass(eq=False)
class Model:
    size: int


@dataclass(eq=False)
class Patcher:
    model: Model


TRANSFORMER, VAE, TEXT = (Patcher(Model(size)) for size in (31, 10, 16))
SAMPLE, DECODE = Load((TRANSFORMER,), 8, 8), Load((VAE,), 18, 8)


def replayed(space: int, *loads: Load) -> Alone:
    made = Alone(space, lambda model: model.size, lambda free, least: int((free - least) / 1.3))
    made.replay(loads)
    return made


@pytest.mark.parametrize(
    ("space", "loads", "free"),
    [
        (100, [SAMPLE, DECODE], 100 - 31 - 10),
        (50, [SAMPLE, DECODE], 50 - 10),  # the transformer goes as a whole
        (60, [SAMPLE, DECODE, SAMPLE], 60 - 10 - 31),  # and comes back beside the VAE
        (60, [SAMPLE, DECODE, SAMPLE, DECODE], 60 - 10 - 31),
        (50, [SAMPLE, DECODE, SAMPLE], 50 - 31),  # which has to leave for it
        (24, [SAMPLE], 24 - 12),  # a part of it stays
        (24, [SAMPLE, DECODE], 24 - 10),
        (100, [Load((TEXT,), 8, 8), SAMPLE, Load((), 60)], 100 - 31),  # used longest ago
        (100, [SAMPLE, Load((), 1000)], 100),
        (100, [SAMPLE, Load((TRANSFORMER,), 1000, 8)], 100 - 31),  # what is asked for stays
    ],
)
def test_what_is_free_then(space: int, loads: list[Load], free: int) -> None:
    assert replayed(space, *loads).free() == free


def test_a_clone_takes_the_place_of_its_model_where_that_is() -> None:
    clone = Patcher(TRANSFORMER.model)
    made = replayed(50, SAMPLE, Load((clone,), 8, 8))
    assert made.loaded == [(clone, 31)]
    assert replayed(24, SAMPLE, Load((clone,), 8, 8)).loaded == [(clone, 12)]
