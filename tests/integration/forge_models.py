"""Models of a few megabytes, of a Forge's own layers, in a process that has its `backend` in its path."""

import sys
import types

import torch
from safetensors.torch import save_file

# What the host's text processing reads of its settings.
host = types.ModuleType("modules")
host.shared = types.ModuleType("modules.shared")
host.shared.opts = types.SimpleNamespace(emphasis="Original")
sys.modules.update({"modules": host, "modules.shared": host.shared})

# ruff: noqa: E402
from backend import operations
from backend.modules.k_model import KModel
from backend.nn.t5 import IntegratedT5
from backend.patcher.base import ModelPatcher
from backend.sampling import sampling_function
from backend.sampling.condition import ConditionCrossAttn
from backend.text_processing import t5_engine

MIB = 1 << 20
WIDE = 512
CPU = torch.device("cpu")
T5 = {
    "num_layers": 2,
    "d_model": WIDE,
    "d_ff": 2 * WIDE,
    "dense_act_fn": "gelu_pytorch_tanh",
    "is_gated_act": True,
    "num_heads": 8,
    "model_type": "t5",
    "vocab_size": 1000,
}
TOKENS = torch.arange(16).view(1, 16)


class Blocks(torch.nn.Module):
    def __init__(self, many):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(WIDE, WIDE) for _ in range(many)])
        self.norm = torch.nn.LayerNorm(WIDE)
        self.fails = None

    def forward(self, x, _timestep, context, **_):
        for number, layer in enumerate(self.layers):
            if number == self.fails:
                raise RuntimeError("on purpose")
            x = torch.tanh(layer(x)) + x + context
        return self.norm(x)


class Denoiser(KModel):
    """The host's own around blocks. `asks`: MB that each image of a batch takes."""

    def __init__(self, blocks):
        torch.nn.Module.__init__(self)
        self.diffusion_model = blocks
        self.computation_dtype = self.storage_dtype = torch.float32
        self.predictor = types.SimpleNamespace(
            calculate_input=lambda sigma, x: x,
            calculate_denoised=lambda sigma, output, x: output,
            timestep=lambda t: t,
        )
        self.batches = []
        blocks.register_forward_pre_hook(lambda _, args: self.batches.append(len(args[0])))

    def memory_required(self, input_shape):
        return input_shape[0] * MIB * 3 // 4


def filled(model, path, seed):
    """Weights that are views of a file."""
    torch.manual_seed(seed)
    values = {
        name: torch.ones(shape) if "norm" in name else torch.randn(shape) / 30
        for name, shape in shapes(model)
    }
    save_file({name: value.to(dtype_of(model)) for name, value in values.items()}, path)
    return path


def shapes(model):
    # The host's linear layers have no weights before they are loaded.
    for name, module in model.named_modules():
        for leaf, parameter in module._parameters.items():
            if leaf not in ("dummy", "scale_weight") and parameter is not None:
                yield f"{name}.{leaf}", tuple(parameter.shape)
        if hasattr(module, "dummy"):
            yield f"{name}.weight", (module.out_features, module.in_features)
            if not isinstance(model, IntegratedT5):
                yield f"{name}.bias", (module.out_features,)


def dtype_of(model):
    return torch.float16 if isinstance(model, IntegratedT5) else torch.float32


def patcher_of(model, path, views, card):
    model.load_state_dict(views(filled(model, path, len(path))), strict=False)
    model.requires_grad_(False)
    return ModelPatcher(model, card, CPU)


def denoiser(many):
    with operations.using_forge_operations(device=CPU, dtype=torch.float32):
        return Denoiser(Blocks(many))


def encoder():
    with operations.using_forge_operations(device=CPU, dtype=torch.float16, manual_cast_enabled=True):
        return IntegratedT5(T5)


def encode(model):
    """As the host's engine does it, which takes the embedding to the device by itself."""
    engine = types.SimpleNamespace(text_encoder=model.transformer)
    return t5_engine.T5TextProcessingEngine.encode_with_transformers(engine, TOKENS).cpu()


def step(model, seed, card):
    """One step of sampling: with a prompt and a negative one, in one batch or two."""
    generator = torch.Generator().manual_seed(seed)
    x, one, other = (torch.randn(1, 1, 2, WIDE, generator=generator).to(card) for _ in range(3))
    conditions = [[{"model_conds": {"c_crossattn": ConditionCrossAttn(each)}}] for each in (one, other)]
    both = sampling_function.calc_cond_uncond_batch(model, *conditions, x, torch.ones(1, device=card), {})
    return torch.cat([each.cpu() for each in both])
