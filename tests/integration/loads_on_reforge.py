"""Run by a reForge's own Python in its folder: random loads on a small card, with reForge's own functions.

Arguments and answer are those of loads_on_neo.py.
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
from ldm_patched.modules.weight_adapter.loha import LoHaAdapter
from safetensors.torch import save_file

from tests.integration.random_loads import HOME, MIB, Believed, Block, Loads, Ours
from tests.second_device import CARD

# Of a model that does not fit it keeps 128 MiB at least.
SIZE, INFERENCE, WIDE = 176 * MIB, 24 * MIB, 1024
believed = Believed(manager, INFERENCE)
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


def with_a_loha():
    """Of every kind of LoRA, reForge takes running out of memory for an error of the file's: it goes on without."""
    patched = models["encoder"].clone()
    factors = [torch.ones(WIDE, 2) / 10, torch.ones(2, WIDE) / 10]
    loha = LoHaAdapter(set(), (*factors, 2.0, *factors, None, None, None))
    for number in range(8):
        patch = loha if loads.chance.random() < 0.5 else ("diff", (change,))
        patched.add_patches({f"layers.{number}.weight": patch}, 0.5)
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
    "lora",
    "unload",
    "raise",
    "full",
    "merge",
)
found = []
for seed, mib in json.loads(sequences):
    believed.size = mib * MIB or SIZE
    loads = Loads(manager, believed, models, WIDE, seed)
    loads.ours = ours
    steps = (loads.chance.choice(STEPS) for _ in range(48))
    loads.play(steps, with_lora, ("unet", "half"), {"encoder": with_a_loha})
    # What reForge has no layer of its own for it copies.
    loads.copies(lambda _model, name, tensor: [] if name.startswith("layers.2.") else [tensor.data])
    found.append(loads.seen)
print(json.dumps(found))
