"""Run by a Forge Neo's own Python in its folder: random loads on a small card, with Neo's own functions.

Arguments: our extension, our repository, the beginning of names of files to make (its last character: a seed).
Answers with one line of JSON.
"""

import gc
import json
import random
import sys
import traceback
import types

# ruff: noqa: E402
extension, repository, file = sys.argv[1:4]
sys.argv = [sys.argv[0], "--cpu"]
sys.path[0] = "."
sys.path.insert(0, extension)
sys.path.append(repository)
sys.path.append("modules_forge/packages")
sys.modules.setdefault("pytest", types.ModuleType("pytest")).MarkDecorator = object
import torch
from safetensors.torch import save_file

from tests import second_device as card
from tests.second_device import CARD

card._load()
from backend import memory_management as manager
from backend import operations
from backend.patcher.base import ModelPatcher
from backend.patcher.lora import merge_lora_to_weight

from flux_speedup.hosts.comfy import moves, weights
from flux_speedup.hosts.forge import streamed
from flux_speedup.hosts.neo import streaming
from flux_speedup.hosts.neo.webui import Neo
from flux_speedup.patching.change import Function, apply_all
from flux_speedup.patching.guard import reporting
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.streaming import split, timeline
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.lane import PlainLane

MIB, HOME = 1 << 20, torch.device("cpu")
SIZE, INFERENCE = 28 * MIB, 12 * MIB
KEPT = 5 * MIB  # for checks of weights
moves.LANES = ("hpu",)
streamed.RING, split.LEAST = 2 * MIB, 1 << 17
streaming.timeline_for = timeline.PlainTimeline
manager.vram_state = manager.VRAMState.NORMAL_VRAM
manager.minimum_inference_memory = lambda: INFERENCE
manager.extra_reserved_memory = lambda: 0
manager.get_torch_device = lambda: CARD
begin = card.used()


def get_free_memory(dev=None, torch_free_too=False):
    free = SIZE - (card._load().card_used() - begin)
    return (free, free) if torch_free_too else free


manager.get_free_memory = get_free_memory


class Block(torch.nn.Module):
    def __init__(self, wide, many):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(wide, wide) for _ in range(many)])
        self.norm = torch.nn.LayerNorm(wide)
        self.fails = None
        self.computation_dtype = torch.float32

    def forward(self, x):
        for number, layer in enumerate(self.layers):
            if number == self.fails:
                raise RuntimeError("on purpose")
            x = torch.tanh(layer(x)) + x
        return self.norm(x)


def made(name, wide, many, seed):
    torch.manual_seed(seed)
    with operations.using_forge_operations(device=HOME, dtype=torch.float32):
        model = Block(wide, many)
    values = {}
    for number in range(many):
        values[f"layers.{number}.weight"] = torch.randn(wide, wide) / 30
        values[f"layers.{number}.bias"] = torch.randn(wide) / 30
    values |= {"norm.weight": torch.ones(wide), "norm.bias": torch.zeros(wide)}
    path = f"{file}-{name}.safetensors"
    save_file(values, path)
    model.load_state_dict(placement.registry.open(path).views(), strict=False)
    model.requires_grad_(False)
    return ModelPatcher(model, CARD, HOME, current_device=HOME)


placement = Placement(lanes=lambda device: PlainLane(device))
attachment = weights.Attachment(Neo.taken_over, placement)
ours = streaming.Streaming(Neo.taken_over, placement, Direct())
attachment.stream_by(ours)
ours.on = True
MODULES = ("backend.memory_management", "backend.patcher.base", "backend.operations", "torch.nn")
layers = [
    Function(
        "backend.operations", f"ForgeOperations.{name}._load_from_state_dict", attachment._files._wrap_layer
    )
    for name in ("Linear", "LayerNorm")
]
functions = [
    change
    for change in (*attachment.changes(), *ours.changes(), *layers)
    if isinstance(change, Function) and change.module in MODULES
]
failed = []


def report(function, error):
    """Where ours fails the host's own runs; here nothing of ours may fail."""
    failed.append(f"{function}: {error!r} {traceback.format_tb(error.__traceback__)[-2:]}")
    return False


with reporting(report):
    apply_all(functions)
unet, encoder = made("unet", 512, 24, 1), made("encoder", 512, 12, 2)
x = torch.randn(2, 512)
lora = {f"layers.{number}.weight": ("diff", (torch.ones(512, 512) * 0.01,)) for number in (0, 5, 11, 17, 23)}


def with_lora(strength):
    patched = unet.clone()
    patched.add_patches(lora, strength)
    return patched


def resident(patcher):
    """What it computes on the card where all of it fits. Merged before or at each use: the same in float32."""
    there = Block(512, len(patcher.model.layers)).requires_grad_(False)
    there.load_state_dict(patcher.model.state_dict())
    there = there.to(CARD)
    for key, patches in patcher.patches.items():
        weight = there.get_parameter(key)
        weight.data = merge_lora_to_weight(patches, weight.data.clone(), key)
    return there(x.to(CARD)).cpu()


with torch.inference_mode():
    expected = {"unet": resident(unet), "encoder": resident(encoder)}
    expected |= {f"unet {strength}": resident(with_lora(strength)) for strength in (0.5, 1.0)}
gc.collect()
card._load().card_limit(card.used() + SIZE)
seen = {"wrong": 0, "runs": 0, "streamed": 0, "with loras": 0, "errors": 0, "copied": 0}
chance = random.Random(int(file[-1]))
patched, name = unet, "unet"


def run(name, patcher):
    manager.load_models_gpu([patcher], memory_required=INFERENCE)
    with torch.inference_mode():
        out = patcher.model(x.to(CARD)).cpu()
    seen["runs"] += 1
    seen["wrong"] += not torch.equal(out, expected[name])
    found = ours.of(patcher.model)
    if found is not None and found.coming > 0:
        seen["streamed"] += 1
        seen["with loras"] += bool(patcher.patches)


for _ in range(40):
    print("STEP", file=sys.stderr)
    what = chance.choice(["unet", "unet", "encoder", "room", "lora", "unload", "raise"])
    if what == "unet":
        for _ in range(3):
            run(name, patched)
    elif what == "encoder":
        run("encoder", encoder)
    elif what == "room":
        size = chance.randrange(1, 12) * MIB
        manager.free_memory(size, CARD)
        seen["errors"] += get_free_memory() < size
        torch.empty(size, dtype=torch.uint8, device=CARD)
    elif what == "lora":
        strength = chance.choice([0.0, 0.5, 1.0])
        patched, name = (with_lora(strength), f"unet {strength}") if strength else (unet, "unet")
    elif what == "unload":
        manager.unload_all_models()
        seen["errors"] += card.used() - begin > KEPT
    else:
        unet.model.fails = chance.randrange(24)
        try:
            run(name, patched)
        except RuntimeError as error:
            seen["errors"] += "on purpose" not in str(error)
        unet.model.fails = None
manager.unload_all_models()
patched = None
gc.collect()
seen["left"] = card.used() - begin
modules = [module for patcher in (unet, encoder) for module in patcher.model.modules()]
seen["hooks"] = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
seen["views"] = all(
    placement.registry.around(p.data_ptr(), p.nbytes) is not None for m in modules for p in m.parameters()
)
seen["failed"] = failed
print(json.dumps(seen))
