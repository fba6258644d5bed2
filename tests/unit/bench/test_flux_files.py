"""Made models: the real shapes, finite values, the same bytes for the same seed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.flux import files, forms, models, shapes


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


@pytest.mark.parametrize("dtype", list(forms.DTYPES))
def test_a_file_holds_each_tensor_with_sane_values(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"a.weight": (64, 100), "a.bias": (64,), "b.norm.scale": (128,), "c.alpha": (), "odd": (3,)}
    loaded = load_file(files.write(tmp_path / "x.safetensors", forms.plain(iter(tensors.items()), dtype), 1))
    assert {name: tuple(tensor.shape) for name, tensor in loaded.items()} == tensors
    values = {name: tensor.float() for name, tensor in loaded.items()}
    assert all(bool(torch.isfinite(each).all()) for each in values.values())
    assert values["a.weight"].std().item() == pytest.approx(0.1, rel=0.1)
    assert values["b.norm.scale"].mean().item() == pytest.approx(1, abs=0.05)
    assert values["c.alpha"].item() == 4


def test_a_tensor_longer_than_the_random_block_goes_round_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "BLOCK", 1001)
    tensors = forms.plain(iter([("a.weight", (50, 100))]), torch.float32)
    path = files.write(tmp_path / "x.safetensors", tensors, 3)
    weight = load_file(path)["a.weight"].reshape(-1)
    assert torch.equal(weight[:3999], weight[1001:])
    assert len(set(weight.tolist())) > 990


def test_one_seed_gives_one_file_and_another_seed_another(tmp_path: Path) -> None:
    def made(name: str, seed: int) -> bytes:
        tensors = forms.plain(shapes.lora(shapes.TINY, 2), torch.bfloat16)
        return files.write(tmp_path / name, tensors, seed).read_bytes()

    assert made("a", 1) == made("b", 1)
    assert made("c", 2) != made("a", 1)
    assert made("a", 2) == made("c", 2), "a file of another seed was taken for this one's"


def test_packed_weights_are_what_bitsandbytes_reads() -> None:
    """A matrix, its scales and its state, in the sizes that its loader expects."""
    found = {
        tensor.name: tensor for tensor in forms.nf4(iter([("a.weight", (384, 256)), ("a.bias", (384,))]))
    }
    state = json.loads(found["a.weight.quant_state.bitsandbytes__nf4"].source.made(torch.empty(0)))
    assert state == {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [384, 256]}
    assert found["a.weight"].shape == (384 * 256 // 2, 1)
    assert found["a.weight.absmax"].shape == (384 * 256 // 64,)
    assert found["a.bias"].dtype == "BF16"


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K"])
def test_quantised_weights_have_the_spread_that_plain_ones_have(kind: str) -> None:
    made = forms.Quantised(kind, 0.05).made(
        torch.randn(forms.BLOCK, generator=torch.Generator().manual_seed(1))
    )
    _, taken, _ = forms.QUANTISED[kind]
    blocks = torch.frombuffer(bytearray(made), dtype=torch.uint8).reshape(-1, taken)
    scale = blocks[0, :2].clone().view(torch.float16).item()
    steps = blocks[:, 2:].view(torch.int8).float().std().item() if kind == "Q8_0" else 190
    assert scale * steps == pytest.approx(0.05, rel=0.1)
    assert len(blocks.unique(dim=0)) > 1000


@pytest.mark.parametrize("kind", ["tiny", "tiny-q8", "tiny-fp8-aio"])
def test_what_is_made_is_found(tmp_path: Path, kind: str) -> None:
    made = models.made(tmp_path, kind, second=True)
    found = models.found(tmp_path)
    assert (found.checkpoint, found.second, found.loras) == (made.checkpoint, made.second, made.loras)
    assert kind.endswith("aio") or sorted(found.modules) == sorted(made.modules)
    with pytest.raises(SystemExit, match=r"no \.safetensors or \.gguf file"):
        models.found(tmp_path / "VAE")
