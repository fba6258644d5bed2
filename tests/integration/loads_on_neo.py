"""Run by a Forge Neo's own Python in its folder: random loads on a small card, with Neo's own functions.

Arguments: our extension (or "", for Neo alone), our repository, the beginning of names of files to make, and as
JSON the sequences: of each its seed and the MiB of the card (0: the usual). Answers with one line of JSON: what
came of each.
"""

import dataclasses
import json
import sys
import types
from functools import partial

# ruff: noqa: E402
extension, repository, file, sequences = sys.argv[1:5]
sys.argv = [sys.argv[0], "--cpu"]
sys.path[0] = "."
sys.path.insert(0, extension or ".")
sys.path.append(repository)
sys.path.append("modules_forge/packages")
sys.modules.setdefault("pytest", types.ModuleType("pytest")).MarkDecorator = object
import gguf
import numpy as np
import torch
from backend import float as rounding
from backend import memory_management as manager
from backend import operations, utils
from backend.patcher import base
from backend.patcher.base import ModelPatcher
from backend.quant_ops import QuantizedTensor
from modules_forge.packages.comfy.weight_adapter.loha import LoHaAdapter
from safetensors.torch import save_file

from tests.integration.random_loads import HOME, MIB, Believed, Block, Loads, Ours, Requests
from tests.second_device import CARD

SIZE, INFERENCE, WIDE = 28 * MIB, 12 * MIB, 512
believed = Believed(manager, INFERENCE)
manager.text_encoder_device = manager.get_torch_device
requests = Requests()


class Cudart:
    """CUDA's register of host memory. `seen`: addresses that were ever in it."""

    def __init__(self):
        self.now, self.seen = {}, set()

    def cudaHostRegister(self, address, size, flags):
        assert address not in self.now
        self.now[address] = size
        self.seen.add(address)
        return 0

    def cudaHostUnregister(self, address):
        del self.now[address]
        return 0


# As with --pin-shared-memory.
cudart, manager.MAX_PINNED_MEMORY = Cudart(), 1 << 40
torch.cuda.cudart = lambda: cudart
torch.Tensor.is_pinned = lambda tensor: tensor.data_ptr() in cudart.now


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


class OursStreaming(Ours):
    """And what does not fit streams, and what fits comes before it is asked for."""

    def __init__(self):
        from flux_speedup.hosts.common import overlap
        from flux_speedup.hosts.forge import need, split_models, splits, streamed
        from flux_speedup.hosts.neo import one_pass, reserve, streaming, weights
        from flux_speedup.hosts.neo.overlap import NeoLoads
        from flux_speedup.hosts.neo.webui import Neo
        from flux_speedup.weights.streaming import split, timeline
        from flux_speedup.weights.transfer.direct import Direct

        streamed.RING, split.LEAST = 2 * MIB, 1 << 17
        need.QUIET, split_models.LEAST_MODEL = 2 * MIB, MIB
        overlap.MARGIN = 4 * MIB
        one_pass.PARTS |= {"layers", "norm"}
        splits.timeline_for = timeline.PlainTimeline
        # Its loader imports everything.
        names = dataclasses.replace(Neo.taken_over, reading="backend.utils")
        super().__init__(lambda placement: weights.NeoAttachment(names, placement))
        self.streaming = streaming.Streaming(names, self.placement, Direct())
        self.attachment.stream_by(self.streaming)
        self.streaming.on = True
        self.run = self.streaming.around_pass(self.run)
        # And the tier keeps half as much again for inference.
        kept = reserve.Reserve(manager, INFERENCE * 3 // 2).changes()
        self.overlap = overlap.Overlap(self.placement, NeoLoads(), {CARD.type})
        self.begin(*kept, *self.streaming.changes(), *self.overlap.changes())

    def for_rings(self):
        coming = sum(each.early.bytes for each in self.overlap._coming)
        return coming + sum(split.held for split in self.streaming._splits.values())

    def streams(self, model):
        found = self.streaming.of(model)
        return found is not None and found.coming > 0


ours = OursStreaming() if extension else None

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
        model = Block(many, WIDE)
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
        # As in published files not in what its layer computes in: the host casts it, and puts that in its place.
        writer.add_tensor(f"{layer}.bias", (random.standard_normal(WIDE) / 30).astype(np.float16))
    writer.add_tensor("norm.weight", np.ones(WIDE, np.float32))
    writer.add_tensor("norm.bias", np.zeros(WIDE, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with operations.using_forge_operations(device=HOME, dtype=torch.float32, bnb_dtype="gguf"):
        return patcher_of(Block(many, WIDE), path)


# As its loader does, and whatever a request computes.
with torch.inference_mode():
    models = {
        "unet": made("unet", 24, 1),
        "packed": made("packed", 70, 2, tuple(FORMATS)),
        "gguf": made_of_gguf("gguf", 110, 5),
        "encoder": made("encoder", 12, 3),
        "small": made("small", 24, 6, tuple(FORMATS)),
        "encoder of gguf": made_of_gguf("encoder", 24, 7),
    }
change = torch.ones(WIDE, WIDE) * 0.01
lora = {f"layers.{number}.weight": ("diff", (change,)) for number in (0, 5, 11, 12, 17, 18, 23)}


def with_lora(name, strength):
    patched = models[name].clone()
    # Into GGUF weights the host merges nothing.
    patched.add_patches(lora, strength, online_mode=name == "gguf" or loads.chance.random() < 0.3)
    return patched


def with_loha(name):
    """Of this kind of LoRA, Neo takes running out of memory for an error of the file's: it goes on without."""
    patched = models[name].clone()
    factors = [torch.ones(WIDE, 2) / 10, torch.ones(2, WIDE) / 10]
    loha = LoHaAdapter(set(), (*factors, 2.0, *factors, None, None, None))
    for number in range(12):
        if number % 5 == 4:
            continue  # INT8: what stands for a card rounds none
        patch = loha if loads.chance.random() < 0.5 else ("diff", (change,))
        patched.add_patches({f"layers.{number}.weight": patch}, 0.5)
    return patched


def weights(kind, name, tensor):
    """Biases of quantised layers are copies, in Neo."""
    parts = [tensor._qdata, tensor._params.scale] if isinstance(tensor, QuantizedTensor) else [tensor.data]
    plain = kind in ("unet", "encoder")
    return parts if plain or (name.startswith("layers") and name.endswith("weight")) else []


PATCHED = ("unet", "packed", "gguf")
STEPS = (*PATCHED, "packed", "gguf", "encoder", "small", "beside", "apart", "room", "lora", "lora", "unload")
STEPS += ("raise", "full", "encoder of gguf", "merge", "pass", "outside")
REQUESTS = ("request",) * 4
"""And on cards of other sizes."""
everywhere = {name: partial(with_loha, name) for name in ("encoder", "small", "unet")}
found = []
for seed, mib in json.loads(sequences):
    cudart.seen.clear()
    believed.size = mib * MIB or SIZE
    loads = Loads(manager, believed, models, WIDE, seed)
    loads.ours = ours
    steps = STEPS + REQUESTS if mib else STEPS
    with torch.inference_mode():
        loads.play((loads.chance.choice(steps) for _ in range(48)), with_lora, PATCHED, everywhere, requests)
    loads.copies(weights)
    loads.seen["pinned"] = len(cudart.now)
    loads.seen["ever pinned"] = len(cudart.seen)
    if ours:
        around = ours.placement.registry.around
        loads.seen["pinned views"] = sum(around(address, 1) is not None for address in cudart.seen)
    found.append(loads.seen)
print(json.dumps(found))
