"""Run by a Forge's own Python in its folder: random loads on a card that is too small, with Forge's own functions.

Arguments: our extension, our repository, the beginning of names of files to make (its last character: a seed).
Answers with one line of JSON.
"""

import copy
import json
import random
import sys
import traceback
import types

# ruff: noqa: E402
extension, repository, file = sys.argv[1:4]
sys.argv = [sys.argv[0], "--always-cpu"]
sys.path[0] = "."
sys.path.insert(0, extension)
sys.path.append(repository)
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

from flux_speedup.hosts.forge import room, split_models, streamed, streaming, weights
from flux_speedup.patching.change import Function, apply_all
from flux_speedup.patching.guard import reporting
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.streaming import split, timeline
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.lane import PlainLane

MIB = 1 << 20
SIZE, INFERENCE = 20 * MIB, 4 * MIB
KEPT = 5 * MIB  # for checks of weights
split_models.KINDS, split_models.LEAST_MODEL, split_models.SAFE = ("hpu",), MIB, 0
split_models.QUIET = room.QUIET = MIB
streamed.RING, split.LEAST = 2 * MIB, 1 << 17
split_models.timeline_for = timeline.PlainTimeline
manager.vram_state = manager.VRAMState.NORMAL_VRAM
manager.current_inference_memory = INFERENCE
manager.get_torch_device = lambda: CARD
manager.is_device_cpu = lambda device: device.type == "cpu"
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


def made(name, wide, many, seed, diffusion):
    torch.manual_seed(seed)
    with operations.using_forge_operations(device=torch.device("cpu"), dtype=torch.float32):
        model = Block(wide, many)
    values = {}
    for number in range(many):
        values[f"layers.{number}.weight"] = torch.randn(wide, wide) / 30
        values[f"layers.{number}.bias"] = torch.randn(wide) / 30
    values |= {"norm.weight": torch.ones(wide), "norm.bias": torch.zeros(wide)}
    path = f"{file}-{name}.safetensors"
    save_file(values, path)
    views = placement.registry.open(path).views()
    model.load_state_dict(views, strict=False)
    model.requires_grad_(False)
    model.diffusion_model = None
    if not diffusion:
        del model.diffusion_model
    return ModelPatcher(model, CARD, torch.device("cpu"))


placement = Placement(lanes=lambda device: PlainLane(device))
attachment = weights.Attachment(placement)
attachment._kinds = ("hpu",)
ours = streaming.Streaming(placement, Direct())
MODULES = ("backend.memory_management", "backend.patcher.base", "backend.patcher.lora", "backend.stream")
functions = [
    change
    for change in (*attachment.changes(), *ours.changes())
    if isinstance(change, Function) and change.module in MODULES
]
failed = []


def report(function, error):
    """Where ours fails the host's own runs; here nothing of ours may fail."""
    failed.append(f"{function}: {error!r} {traceback.format_tb(error.__traceback__)[-2:]}")
    return False


with reporting(report):
    apply_all(functions)
unet, encoder = made("unet", 512, 24, 1, True), made("encoder", 512, 12, 2, False)
x = torch.randn(2, 512)
DIFFERENCE = [0.5, ("diff", (torch.ones(512, 512) * 0.01,)), 1.0, None, None]
lora = {f"layers.{number}.weight": [DIFFERENCE] for number in (0, 5, 11, 17, 23)}


def resident(patcher, loras):
    """What it computes on the card where all of it fits."""
    there = copy.deepcopy(patcher.model).to(CARD)
    for key, patches in loras.items():
        weight = there.get_parameter(key)
        weight.data = merge_lora_to_weight(patches, weight, key)
    return there(x.to(CARD)).cpu()


with torch.inference_mode():
    expected = {
        "unet": resident(unet, {}),
        "unet+lora": resident(unet, lora),
        "encoder": resident(encoder, {}),
    }
card._load().card_limit(card.used() + SIZE)
seen = {"wrong": 0, "runs": 0, "least": [], "streamed": 0, "errors": 0}
chance = random.Random(int(file[-1]))
patched = unet


def run(name, patcher):
    manager.load_models_gpu([patcher], memory_required=INFERENCE)
    with torch.inference_mode():
        out = patcher.model(x.to(CARD)).cpu()
    seen["runs"] += 1
    seen["wrong"] += not torch.equal(out, expected[name])
    found = ours.models.of(patcher.model)
    seen["streamed"] += found is not None and found.split.streaming > 0


for _ in range(30):
    what = chance.choice(["unet", "unet", "encoder", "room", "lora", "unload", "raise"])
    if what == "unet":
        name = "unet+lora" if patched.lora_patches else "unet"
        for _ in range(3):
            run(name, patched)
    elif what == "encoder":
        before = ours.models.of(unet.model).split.staying if ours.models.of(unet.model) else None
        run("encoder", encoder)
        after = ours.models.of(unet.model)
        if before is not None and after is not None:
            seen["least"].append(after.split.staying - before)
    elif what == "room":
        size = chance.randrange(1, 12) * MIB
        manager.free_memory(size, CARD)
        seen["errors"] += get_free_memory() < size
        torch.empty(size, dtype=torch.uint8, device=CARD)
    elif what == "lora":
        patched = unet.clone()
        if chance.random() < 0.6:
            patched.lora_patches[("one", 0.5, 1.0, False)] = lora
    elif what == "unload":
        manager.unload_all_models()
        seen["errors"] += card.used() - begin > KEPT
    else:
        unet.model.fails = chance.randrange(24)
        try:
            run("unet", patched)
        except RuntimeError as error:
            seen["errors"] += "on purpose" not in str(error)
        unet.model.fails = None
ours._let_all_go()
manager.unload_all_models()
seen["left"] = card.used() - begin
modules = [module for patcher in (unet, encoder) for module in patcher.model.modules()]
seen["hooks"] = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
seen["flags"] = sum(hasattr(module, "prev_parameters_manual_cast") for module in modules)
seen["home"] = all(p.device.type == "cpu" for module in modules for p in module.parameters())
seen["failed"] = failed
print(json.dumps(seen))
