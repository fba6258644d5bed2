"""Made models: the real shapes, finite values, the same bytes for the same seed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.flux import files, models, shapes


@pytest.mark.parametrize(
    ("made", "tensors", "values"),
    [
        (shapes.transformer, 780, 23_802_816_640 // 2),
        (shapes.t5, 219, 9_524_621_312 // 2),
        (shapes.clip, 196, 246_120_960 // 2),
        (shapes.vae, 244, 335_278_732 // 4),
    ],
)
def test_real_models_have_the_published_number_of_tensors_and_values(made, tensors, values) -> None:
    found = dict(made(shapes.REAL))
    assert len(found) == tensors
    assert sum(math.prod(shape) for shape in found.values()) == values


@pytest.mark.parametrize("dtype", list(files.NAMES))
def test_a_file_holds_each_tensor_with_sane_values(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"a.weight": (64, 100), "a.bias": (64,), "b.norm.scale": (128,), "c.alpha": (), "odd": (3,)}
    loaded = load_file(files.write(tmp_path / "x.safetensors", iter(tensors.items()), dtype, 1))
    assert {name: tuple(tensor.shape) for name, tensor in loaded.items()} == tensors
    values = {name: tensor.float() for name, tensor in loaded.items()}
    assert all(bool(torch.isfinite(each).all()) for each in values.values())
    assert values["a.weight"].std().item() == pytest.approx(0.1, rel=0.1)
    assert values["b.norm.scale"].mean().item() == pytest.approx(1, abs=0.05)
    assert values["c.alpha"].item() == 4


def test_a_tensor_longer_than_the_random_block_goes_round_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", 1001)
    path = files.write(tmp_path / "x.safetensors", iter([("a.weight", (50, 100))]), torch.float32, 3)
    weight = load_file(path)["a.weight"].reshape(-1)
    assert torch.equal(weight[:3999], weight[1001:])
    assert len(set(weight.tolist())) > 990


def test_one_seed_gives_one_file_and_another_seed_another(tmp_path: Path) -> None:
    def made(name: str, seed: int) -> bytes:
        return files.write(tmp_path / name, shapes.lora(shapes.TINY, 2), torch.bfloat16, seed).read_bytes()

    assert made("a", 1) == made("b", 1)
    assert made("c", 2) != made("a", 1)
    assert made("a", 2) == made("c", 2), "a file of another seed was taken for this one's"


def test_what_is_made_is_found(tmp_path: Path) -> None:
    made = models.made(tmp_path, "tiny", second=True)
    found = models.found(tmp_path)
    assert (found.checkpoint, found.second, found.loras) == (made.checkpoint, made.second, made.loras)
    assert sorted(found.modules) == sorted(made.modules)
    with pytest.raises(SystemExit, match=r"no \.safetensors file"):
        models.found(tmp_path / "VAE")
