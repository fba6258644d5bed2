"""Run by a reForge's own Python in its folder: random loads on a small card, with reForge's own functions.

Arguments: our extension (or "", for reForge alone), our repository, the beginning of names of files to make, how
many sequences there are (their seeds count from 0). Answers with one line of JSON: what came of each.
"""

import dataclasses
import json
import sys
import types

# ruff: noqa: E402
extension, repository, file, sequences = sys.argv[1:5]
sys.argv = [sys.argv[0], "--always-cpu"]
sys.path[0] = "."
sys.path.insert(0, extension or ".")
sys.path.append(repository)
sys.modules.setdefault("pytest", types.ModuleType("pytest")).MarkDecorator = object
import torch
from ldm_patched.modules import args_parser

args_parser.args, _ = args_parser.parser.parse_known_args()
from ldm_patched.modules import model_management as manager
from ldm_patched.modules import ops
from ldm_patched.modules.model_patcher import ModelPatcher
from safetensors.torch import save_file

from tests.integration.random_loads import HOME, MIB, Block, Loads, Ours, believe
from tests.second_device import CARD

# Of a model that does not fit it keeps 128 MiB at least.
SIZE, INFERENCE, WIDE = 176 * MIB, 24 * MIB, 1024
taken = believe(manager, SIZE, INFERENCE)
builder = types.ModuleType("builder")
sys.modules["builder"] = builder


def build(model, path):
    """Where reForge's own builder reads a checkpoint."""
    import safetensors.torch

    model.load_state_dict(safetensors.torch.load_file(path))


builder.build = build


def begun():
    from flux_speedup.hosts.reforge.webui import ReForge
    from flux_speedup.hosts.reforge.weights import ReForgeAttachment

    names = dataclasses.replace(ReForge.taken_over, build=("builder", "build"))
    found = Ours(lambda placement: ReForgeAttachment(names, placement))
    found.begin()
    return found


def made(name, many, seed, layers, dtype):
    """`layers`: reForge's kind of them; one is PyTorch's own, which never leaves without the others."""
    torch.manual_seed(seed)
    with ops.use_patched_ops(layers):
        model = Block(many, WIDE)
    if dtype == torch.float32:
        model.layers[2] = torch.nn.Linear(WIDE, WIDE)
    model.to(dtype)
    values = {key: torch.randn(one.shape) / 30 for key, one in model.state_dict().items()}
    values |= {"norm.weight": torch.ones(WIDE), "norm.bias": torch.zeros(WIDE)}
    save_file({key: one.to(dtype) for key, one in values.items()}, path := f"{file}-{name}.safetensors")
    builder.build(model, path)
    model.requires_grad_(False)
    return ModelPatcher(model, CARD, HOME)


ours = begun() if extension else None
models = {
    "unet": made("unet", 46, 1, ops.disable_weight_init, torch.float32),
    "half": made("half", 80, 2, ops.manual_cast, torch.bfloat16),
    "encoder": made("encoder", 8, 3, ops.disable_weight_init, torch.float32),
}
change = torch.ones(WIDE, WIDE) * 0.01
loras = [
    {f"layers.{number}.weight": ("diff", (change,)) for number in (0, 2, 5, 11, 12, 17, 18, 23, 40)},
    {f"layers.{number}.bias": ("diff", (change[0],)) for number in (5, 7, 30, 44)},
]


def with_lora(name, strength):
    patched = models[name].clone()
    for lora in loads.chance.choice([loras, loras[:1], loras[1:]]):
        patched.add_patches(lora, strength)
    return patched


# Nothing beside another: of what it keeps at least there is room once.
STEPS = (
    "unet",
    "unet",
    "half",
    "half",
    "encoder",
    "apart",
    "room",
    "lora",
    "lora",
    "unload",
    "raise",
    "full",
)
found = []
for seed in range(int(sequences)):
    loads = Loads(manager, models, WIDE, INFERENCE, seed)
    loads.ours = ours
    steps = (loads.chance.choice(STEPS) for _ in range(48))
    loads.play(steps, SIZE, taken, with_lora, ("unet", "half"))
    # What reForge has no layer of its own for it copies.
    loads.copies(lambda _model, name, tensor: [] if name.startswith("layers.2.") else [tensor.data])
    found.append(loads.seen)
print(json.dumps(found))
