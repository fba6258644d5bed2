"""Run by a Forge's own Python in its folder: random loads on a card that is too small, with Forge's own functions.

Arguments: our extension, our repository, the beginning of names of files to make (its last character: a seed).
Answers with one line of JSON.
"""

import copy
import json
import random
import sys
import traceback

# ruff: noqa: E402
extension, repository, file = sys.argv[1:4]
alone = "alone" in sys.argv[4:]
sys.argv = [sys.argv[0], "--always-cpu"]
sys.path[0] = "."
sys.path.insert(0, extension)
sys.path.append(repository)
import torch

from tests import second_device as card
from tests.second_device import CARD

card._load()
from backend import memory_management as manager
from backend.patcher import lora as hosts_lora
from backend.patcher.lora import merge_lora_to_weight

from flux_speedup.hosts.forge import need, split_models, splits, streamed, streamed_lora, streaming, weights
from flux_speedup.patching.change import Function, apply_all
from flux_speedup.patching.guard import reporting
from flux_speedup.ram import HELD, Held
from flux_speedup.weights.residency import signature
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.streaming import split, timeline
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.lane import PlainLane
from flux_speedup.weights.transfer.registration import Registrar
from tests.integration import forge_models as models

MIB = 1 << 20
SIZE, INFERENCE = 20 * MIB, 4 * MIB
# Where everything fits, fits with a little to spare, one unit does not, half of them do not, nearly none does.
SIZES = [29 * MIB, 25 * MIB + MIB // 2, 25 * MIB, 16 * MIB, 9 * MIB]
KEPT = 5 * MIB  # for checks of weights
need.KINDS, need.QUIET, need.OURS, split_models.LEAST_MODEL = ("hpu",), 2 * MIB, MIB, MIB
streamed_lora.MERGING = 2 * MIB
signature._ROWS = (8,)
streamed.RING, split.LEAST = 2 * MIB, 1 << 17
splits.timeline_for = timeline.PlainTimeline
registering = file[-1] in "357"
direct = Direct()
if registering:
    # The card wants memory that it reads by itself; what is registered in the background comes at any time.
    CARDS = frozenset({"hpu"})
    registrar = Registrar(lambda _address, _size: 0, lambda _address: 0, piece=1 << 16)
    direct = Direct(registrar=registrar, held=Held(), kinds=CARDS, warm=lambda _: True, quiet_s=0.001)
    timeline.PlainTimeline.pinned = True
manager.vram_state = manager.VRAMState.NORMAL_VRAM
manager.current_inference_memory = INFERENCE
manager.get_torch_device = manager.text_encoder_device = lambda: CARD
manager.is_device_cpu = lambda device: device.type == "cpu"
begin = card.used()
size = SIZE


def get_free_memory(dev=None, torch_free_too=False):
    free = size - (card._load().card_used() - begin)
    return (free, free) if torch_free_too else free


manager.get_free_memory = get_free_memory
placement = Placement(lanes=lambda device: PlainLane(device))
attachment = weights.Attachment(placement)
attachment._kinds = ("hpu",)
ours = streaming.Streaming(placement, direct)
functions = [
    change
    for change in (*attachment.changes(), *ours.changes())
    if isinstance(change, Function) and change.module in sys.modules
]
failed = []


failing = {"left": 0}


def merge(patches, weight, *args, **kwargs):
    if failing["left"]:
        failing["left"] -= 1
        raise RuntimeError("merging fails on purpose")
    return merge_lora_to_weight(patches, weight, *args, **kwargs)


hosts_lora.merge_lora_to_weight = merge
hosts_refresh = hosts_lora.LoraLoader.refresh


def report(function, error):
    """Where ours fails the host's own runs; here nothing of ours may fail."""
    if "on purpose" not in str(error):
        failed.append(f"{function}: {error!r} {traceback.format_tb(error.__traceback__)[-2:]}")
    return False


def views(path):
    return placement.registry.open(path).views()


if not alone:
    with reporting(report):
        apply_all(functions)
unet = models.patcher_of(models.denoiser(24), f"{file}-unet.safetensors", views, CARD)
encoder = models.patcher_of(models.encoder(), f"{file}-encoder.safetensors", views, CARD)


def lora_of(strength):
    """For some layers, as the host has it from a LoRA's file."""
    difference = [strength, ("diff", (torch.ones(512, 512) * 0.01,)), 1.0, None, None]
    return {f"diffusion_model.layers.{number}.weight": [difference] for number in (0, 5, 11, 17, 23)}


def with_lora(strength):
    """A request's own clone of the transformer; strength 0 is no LoRA."""
    clone = unet.clone()
    if strength:
        clone.lora_patches[("one", strength, 1.0, False)] = lora_of(strength)
    return clone


def named(patcher):
    return "unet" + "".join(f"+{strength}" for _, strength, *_ in patcher.lora_patches)


STRENGTHS = (0.5, 0.8)
patched = unet
if file[-1] in "13579":
    HELD.room = lambda rule=None: 0  # no RAM for merged copies: each LoRA is merged whenever a weight arrives
seen = {
    "kept": 0,
    "wrong": 0,
    "runs": 0,
    "least": [],
    "streamed": 0,
    "encoded": 0,
    "errors": 0,
    "batches": [],
    "failed_loads": 0,
    "unregistered": 0,
    "made_room": 0,
}
make_now = ours._room.make_now


def make_now_seen(*args):
    gone = make_now(*args)
    seen["made_room"] += len(args) > 1 and args[1] is not None and gone > 0
    return gone


ours._room.make_now = make_now_seen


def resident(patcher, compute, lora=None):
    """What it computes on the card where all of it fits, however its batches are."""
    there = copy.deepcopy(patcher.model).to(CARD)
    for key, patches in (lora or {}).items():
        weight = there.get_parameter(key)
        weight.data = merge_lora_to_weight(patches, weight, key)
    return compute(there)


def in_one(model):
    return models.step(model, 1, CARD)


def one_by_one(model):
    ask, manager.get_free_memory = manager.get_free_memory, lambda *_: 0
    try:
        return models.step(model, 1, CARD)
    finally:
        manager.get_free_memory = ask


def run(name, patcher):
    manager.load_models_gpu([patcher], memory_required=INFERENCE + MIB // 2 if name != "encoder" else 0)
    with torch.inference_mode():
        if name == "encoder":
            out, batched = models.encode(patcher.model), 1
        else:
            patcher.model.batches.clear()
            out = models.step(patcher.model, 1, CARD)
            batched = patcher.model.batches[0]
    seen["runs"] += 1
    seen["wrong"] += not torch.equal(out, expected[name, batched])
    found = ours.models.of(patcher.model)
    seen["streamed"] += found is not None and found.split.streaming > 0
    seen["kept"] += found is not None and "with their LoRA in pinned RAM" in found.sentence()
    seen["unregistered"] += found is not None and reads_elsewhere(found)
    seen["encoded"] += name == "encoder" and found is not None and found.stream.figures.units > 0


def reads_elsewhere(found):
    """Whether weights are read from pages that are not registered, by what reads registered ones."""
    streams = [unit for unit in found.units.values() if unit.number in found.stream.streamed]
    slots = [slot for unit in streams for slot in unit.slots]
    return found._origin._registered and not all(found._origin._sources.is_registered(slot) for slot in slots)


def limit(to, broken=0):
    """The host is told that so many bytes are there; of which some cannot be had, as they are in small pieces."""
    global size
    size = to
    card._load().card_limit(begin + size - broken if size < 1 << 40 else (1 << 63) - 1)


def batches_on(card_size):
    """How many images a step computes at once after the first load on such a card, with more or less kept."""
    found = []
    for inference in (MIB, 3 * MIB // 2, 2 * MIB):
        limit(card_size)
        manager.current_inference_memory = inference
        manager.load_models_gpu([unet], memory_required=unet.memory_required([2]))
        with torch.inference_mode():
            unet.model.batches.clear()
            models.step(unet.model, 1, CARD)
        found += [unet.model.batches[0], sum(p.device == CARD for p in unet.model.parameters()) == 50]
        manager.unload_all_models()
    manager.current_inference_memory = INFERENCE
    return found


seen["batches"] = [batches_on(each) for each in SIZES] if alone or file.endswith("0") else []
if alone:
    print(json.dumps(seen))
    sys.exit()
limit(1 << 62)
with torch.inference_mode():
    expected = {
        ("unet", 2): resident(unet, in_one),
        ("unet", 1): resident(unet, one_by_one),
        ("encoder", 1): resident(encoder, models.encode),
    }
    for each in STRENGTHS:
        expected[f"unet+{each}", 2] = resident(unet, in_one, lora_of(each))
        expected[f"unet+{each}", 1] = resident(unet, one_by_one, lora_of(each))
begin = card.used()
limit(SIZE)
mode = torch.inference_mode()
mode.__enter__()  # as the host processes images
chance = random.Random(int(file[-1]))
for _ in range(16):
    what = chance.choice(["unet", "unet", "encoder", "room", "lora", "unload", "raise", "fail", "hosts"])
    if what == "unet":
        for _ in range(3):
            run(named(patched), patched)
    elif what == "encoder":
        before = ours.models.of(unet.model).split.staying if ours.models.of(unet.model) else None
        run("encoder", encoder)
        after = ours.models.of(unet.model)
        if before is not None and after is not None:
            gone = before - after.split.staying
            own = ours.models.of(encoder.model)
            seen["least"].append(own.always_bytes + own.stream.ring + need.QUIET + MIB - gone)
    elif what == "room":
        room = chance.randrange(1, 12) * MIB
        manager.free_memory(room, CARD)
        seen["errors"] += get_free_memory() < room
        torch.empty(room, dtype=torch.uint8, device=CARD)
    elif what == "lora":
        patched = with_lora(chance.choice([0, *STRENGTHS, *STRENGTHS]))
    elif what == "fail":
        # Merging fails, in a load, beside one, or as weights arrive; then the same is asked for again, or others.
        patched = with_lora(chance.choice(STRENGTHS))
        if chance.random() < 0.5:
            manager.unload_all_models()
        unet.model.lora_loader.loaded_hash = "none"
        failing["left"] = chance.choice([0, 0, 1, 2, 3, 12])
        if not failing["left"]:
            limit(SIZE, INFERENCE + chance.randrange(1, 9) * MIB // 2)
        try:
            run(named(patched), patched)
        except RuntimeError as error:
            meant = "on purpose" in str(error) or isinstance(error, torch.OutOfMemoryError)
            seen["errors"] += not meant
            seen["failed_loads"] += 1
            there = [each.model.model for each in manager.current_loaded_models]
            stays = sum(p.nbytes for m in there for p in m.parameters() if p.device == CARD)
            held = sum(each.held for m in ours.models.all() for each in [ours.models.of(m)])
            seen["errors"] += card.used() - begin > stays + held + KEPT
        failing["left"] = 0
        limit(SIZE)
        for strength in chance.choice([[None], [None, 0], [0], [0.8, 0.5, 0], [0.5, 0.8, 0]]):
            patched = patched if strength is None else with_lora(strength)
            run(named(patched), patched)
    elif what == "hosts":
        # The host merges by itself, in somebody's copy of its function; then the same is asked for, or others.
        patched = with_lora(chance.choice(STRENGTHS))
        if chance.random() < 0.5:
            manager.unload_all_models()
        limit(1 << 62)
        hosts_refresh(unet.model.lora_loader, patched.lora_patches, models.CPU, True)
        limit(SIZE)
        for strength in chance.choice([[0.5, 0.8, 0], [0.8, 0.5, 0], [0]]):
            patched = with_lora(strength)
            if chance.random() < 0.3:
                run("encoder", encoder)
            run(named(patched), patched)
    elif what == "unload":
        manager.unload_all_models()
        seen["errors"] += card.used() - begin > KEPT
    else:
        unet.model.diffusion_model.fails = chance.randrange(24)
        try:
            run("unet", patched)
        except RuntimeError as error:
            seen["errors"] += "on purpose" not in str(error)
        unet.model.diffusion_model.fails = None
ours._let_all_go()
manager.unload_all_models()
seen["left"] = card.used() - begin
modules = [module for patcher in (unet, encoder) for module in patcher.model.modules()]
seen["hooks"] = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules) - 1
seen["flags"] = sum(hasattr(module, "prev_parameters_manual_cast") for module in modules)
seen["home"] = all(p.device.type == "cpu" for module in modules for p in module.parameters())
seen["failed"] = failed
seen["registered"] = registering and direct.come > 0
print(json.dumps(seen))
