"""Run by a Forge Neo's own Python in its folder: random loads on a small card, with Neo's own functions.

Arguments: our extension (or "", for Neo alone), our repository, the beginning of names of files to make (its last
character: a seed). Answers with one line of JSON.
"""

import dataclasses
import gc
import hashlib
import json
import random
import sys
import traceback
import types

# ruff: noqa: E402
extension, repository, file = sys.argv[1:4]
sys.argv = [sys.argv[0], "--cpu"]
sys.path[0] = "."
sys.path.insert(0, extension or ".")
sys.path.append(repository)
sys.path.append("modules_forge/packages")
sys.modules.setdefault("pytest", types.ModuleType("pytest")).MarkDecorator = object
import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from tests import second_device as card
from tests.second_device import CARD

card._load()
from backend import float as rounding
from backend import memory_management as manager
from backend import operations, utils
from backend.patcher import base
from backend.patcher.base import ModelPatcher
from backend.quant_ops import QuantizedTensor

MIB, HOME = 1 << 20, torch.device("cpu")
SIZE, INFERENCE = 28 * MIB, 12 * MIB
KEPT = 5 * MIB  # for checks of weights
WIDE = 512
manager.vram_state = manager.VRAMState.NORMAL_VRAM
manager.minimum_inference_memory = lambda: INFERENCE
manager.extra_reserved_memory = lambda: 0
manager.get_torch_device = lambda: CARD
begin = card.used()


def get_free_memory(dev=None, torch_free_too=False):
    free = SIZE - (card._load().card_used() - begin)
    return (free, free) if torch_free_too else free


manager.get_free_memory = get_free_memory


def at_home(function):
    """What stands for a card draws no random numbers: what needs some is computed on the CPU."""

    def rounded(value, *args, **kwargs):
        args = [one.to(HOME) if isinstance(one, torch.Tensor) else one for one in args]
        made = function(value.to(HOME), *args, **kwargs)
        return tuple(one.to(CARD) for one in made) if isinstance(made, tuple) else made.to(CARD)

    return rounded


for name in [name for name in vars(rounding) if name.startswith("stochastic_round")]:
    setattr(rounding, name, at_home(getattr(rounding, name)))
base.stochastic_rounding = rounding.stochastic_rounding
failed = []


class Ours:
    """What the extension puts in force, without the rest of a WebUI."""

    def __init__(self):
        from flux_speedup.hosts.comfy import merging
        from flux_speedup.hosts.forge import streamed
        from flux_speedup.hosts.neo import quantised, streaming, weights
        from flux_speedup.hosts.neo.webui import Neo
        from flux_speedup.patching.change import apply_all
        from flux_speedup.patching.guard import reporting
        from flux_speedup.weights.residency.placement import Placement
        from flux_speedup.weights.streaming import split, timeline
        from flux_speedup.weights.transfer.direct import Direct
        from flux_speedup.weights.transfer.lane import PlainLane

        merging.LANES = ("hpu",)
        streamed.RING, split.LEAST = 2 * MIB, 1 << 17
        streaming.timeline_for = timeline.PlainTimeline
        self.placement = Placement(lanes=lambda device: PlainLane(device))
        names = dataclasses.replace(
            Neo.taken_over, reading="backend.utils"
        )  # the other one imports everything
        attachment = weights.NeoAttachment(names, self.placement)
        self.streaming = streaming.Streaming(names, self.placement, Direct())
        attachment.stream_by(self.streaming)
        self.streaming.on = True
        modules = ("backend.memory_management", "backend.patcher.base", "backend.utils", "torch.nn")
        with reporting(self._report):
            apply_all(
                change
                for change in (*attachment.changes(), *self.streaming.changes())
                if change.module is None
                or change.module in (*modules, "backend.operations", quantised.LAYERS)
            )

    def _report(self, function, error):
        """Where ours fails the host's own runs; here nothing of ours may fail."""
        failed.append(f"{function}: {error!r} {traceback.format_tb(error.__traceback__)[-2:]}")
        return False

    def is_view(self, tensor):
        return self.placement.registry.around(tensor.data_ptr(), tensor.nbytes) is not None

    def streams(self, model):
        found = self.streaming.of(model)
        return found is not None and found.coming > 0


ours = Ours() if extension else None


class Block(torch.nn.Module):
    def __init__(self, many):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(WIDE, WIDE) for _ in range(many)])
        self.norm = torch.nn.LayerNorm(WIDE)
        self.fails = None
        self.computation_dtype = torch.float32

    def forward(self, x):
        for number, layer in enumerate(self.layers):
            if number == self.fails:
                raise RuntimeError("on purpose")
            x = torch.tanh(layer(x)) + x
        return self.norm(x)


FORMATS = {
    "float8_e4m3fn": ("TensorCoreFP8E4M3Layout", {"scale": "recalculate"}),
    "float8_e5m2": ("TensorCoreFP8E5M2Layout", {"scale": "recalculate"}),
    "nvfp4": ("TensorCoreNVFP4Layout", {}),
    "mxfp8": ("TensorCoreMXFP8Layout", {}),
    "int8_tensorwise": ("TensorWiseINT8Layout", {}),
}


SMALL = np.frombuffer(np.float16(1e-5).tobytes(), np.uint8)
SCALES = {gguf.GGMLQuantizationType.Q4_K: slice(0, 4), gguf.GGMLQuantizationType.Q6_K: slice(208, 210)}


def packed(name, values, quantisation):
    """A layer's weight as files have it that are packed so."""
    layout, options = FORMATS[quantisation]
    tensors = QuantizedTensor.from_float(values, layout, **options).state_dict(f"{name}.weight")
    told = json.dumps({"format": quantisation}).encode()
    return {**tensors, f"{name}.comfy_quant": torch.tensor(list(told), dtype=torch.uint8)}


def made(name, many, seed, formats=()):
    torch.manual_seed(seed)
    quantised = {"mixed_ops": True, "TE": False} if formats else None
    with operations.using_forge_operations(device=HOME, dtype=torch.float32, bnb_dtype=quantised):
        model = Block(many)
    values = {}
    for number in range(many):
        layer, weight = f"layers.{number}", torch.randn(WIDE, WIDE) / 30
        values |= (
            packed(layer, weight, formats[number % len(formats)]) if formats else {f"{layer}.weight": weight}
        )
        values[f"{layer}.bias"] = torch.randn(WIDE) / 30
    values |= {"norm.weight": torch.ones(WIDE), "norm.bias": torch.zeros(WIDE)}
    path = f"{file}-{name}.safetensors"
    save_file(values, path)
    return patcher_of(model, path)


def patcher_of(model, path):
    model.load_state_dict(utils.load_torch_file(path), strict=False)
    model.requires_grad_(False)
    return ModelPatcher(model, CARD, HOME, current_device=HOME)


def made_of_gguf(name, many, seed):
    """Layers of every kind: those that the writer cannot make are random bytes with small scales."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path := f"{file}-{name}.gguf", "flux")
    kinds = gguf.GGMLQuantizationType
    for number in range(many):
        layer, values = f"layers.{number}", random.standard_normal((WIDE, WIDE), np.float32) / 30
        kind = (kinds.Q8_0, kinds.Q4_0, kinds.Q5_1, kinds.Q4_K, kinds.Q6_K)[number % 5]
        _, taken = gguf.GGML_QUANT_SIZES[kind]
        if kind in SCALES:
            data = random.integers(0, 256, (WIDE, WIDE // 256, taken), np.uint8)
            data[..., SCALES[kind]] = np.resize(SMALL, data[..., SCALES[kind]].shape)
            data = data.reshape(WIDE, -1)
        else:
            data = gguf.quants.quantize(values, kind)
        writer.add_tensor(f"{layer}.weight", data, raw_dtype=kind)
        writer.add_tensor(f"{layer}.bias", random.standard_normal(WIDE, np.float32) / 30)
    writer.add_tensor("norm.weight", np.ones(WIDE, np.float32))
    writer.add_tensor("norm.bias", np.zeros(WIDE, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with operations.using_forge_operations(device=HOME, dtype=torch.float32, bnb_dtype="gguf"):
        return patcher_of(Block(many), path)


models = {
    "unet": made("unet", 24, 1),
    "packed": made("packed", 70, 2, tuple(FORMATS)),
    "gguf": made_of_gguf("gguf", 110, 5),
    "encoder": made("encoder", 12, 3),
}
x = torch.randn(2, WIDE, generator=torch.Generator().manual_seed(4))
change = torch.ones(WIDE, WIDE) * 0.01
lora = {f"layers.{number}.weight": ("diff", (change,)) for number in (0, 5, 11, 12, 17, 18, 23)}


def with_lora(name, strength):
    patched = models[name].clone()
    # Into GGUF weights the host merges nothing.
    patched.add_patches(lora, strength, online_mode=name == "gguf" or chance.random() < 0.3)
    return patched


gc.collect()
card._load().card_limit(card.used() + SIZE)
seen = {"images": [], "streamed": 0, "with loras": 0, "packed": 0, "gguf": 0, "errors": 0}
chance = random.Random(int(file[-1]))
chosen = dict(models)


def run(name):
    patcher = chosen[name]
    manager.load_models_gpu([patcher], memory_required=INFERENCE)
    with torch.inference_mode():
        out = patcher.model(x.to(CARD)).cpu()
    seen["errors"] += not torch.isfinite(out).all().item()
    seen["images"].append(f"{name} {hashlib.sha256(out.numpy().tobytes()).hexdigest()[:16]}")
    if ours and ours.streams(patcher.model):
        seen["streamed"] += 1
        seen["with loras"] += bool(patcher.patches)
        if name in seen:
            seen[name] += 1


for _ in range(60):
    what = chance.choice(
        ["unet", "packed", "packed", "gguf", "gguf", "encoder", "room", "lora", "lora", "unload", "raise"]
    )
    if what in models:
        for _ in range(1 if what == "encoder" else 2):
            run(what)
    elif what == "room":
        size = chance.randrange(1, 12) * MIB
        manager.free_memory(size, CARD)
        seen["errors"] += manager.get_free_memory(CARD) < size
    elif what == "lora":
        name, strength = chance.choice(["unet", "packed", "gguf"]), chance.choice([0.0, 0.5, 1.0])
        chosen[name] = with_lora(name, strength) if strength else models[name]
    elif what == "unload":
        manager.unload_all_models()
        seen["errors"] += card.used() - begin > KEPT
    else:
        name = chance.choice(["unet", "packed", "gguf"])
        models[name].model.fails = chance.randrange(24)
        try:
            run(name)
        except RuntimeError as error:
            seen["errors"] += "on purpose" not in str(error)
        models[name].model.fails = None
manager.unload_all_models()
chosen = None
gc.collect()
seen["left"] = card.used() - begin
modules = [module for patcher in models.values() for module in patcher.model.modules()]
seen["hooks"] = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


def copies():
    """Bytes of weights that are in memory of their own at home; biases of quantised layers are, in Neo."""
    for kind, patcher in models.items():
        for name, tensor in patcher.model.named_parameters():
            packed = isinstance(tensor, QuantizedTensor)
            parts = [tensor._qdata, tensor._params.scale] if packed else [tensor.data]
            if kind not in ("packed", "gguf") or (name.startswith("layers") and name.endswith("weight")):
                yield sum(part.nbytes for part in parts if not ours.is_view(part))


seen["copies"] = sum(copies()) if ours else None
seen["failed"] = failed
print(json.dumps(seen))
