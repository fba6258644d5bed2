"""What other code and other people do to a model on the card, on Forge's own classes. Prints what came of it."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flux_speedup.weights.files.span import find
from tests.attacks.forge_scene import CARD, CPU, WIDTH, FourBit, FourBitNested, Scene, patches, same, start
from tests.second_device import counted, full

Attack = Callable[[Scene], dict[str, Any]]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__] = function
    return function


@attack
def lora_then_less_room(scene: Scene) -> dict[str, Any]:
    """Everything on the card with LoRA 1, then LoRA 2 with less room, then none: the host loads in part."""
    scene.image(scene.with_lora(1))
    found = {"first": scene.right(scene.expected(1)), "all on the card": scene.on_card()}
    scene.image(scene.with_lora(2), room=scene.bytes // 2)
    found |= {"second": scene.right(scene.expected(2)), "in part": 0 < scene.on_card() < 6}
    scene.image(scene.with_lora(), room=scene.bytes // 2)
    found["none"] = scene.right(scene.expected())
    scene.unload()
    return {**found, "unloaded": scene.right(scene.clean), "used": scene.used()}


@attack
def lora_in_part_then_all(scene: Scene) -> dict[str, Any]:
    scene.image(scene.with_lora(1), room=scene.bytes // 2)
    found = {"first": scene.right(scene.expected(1))}
    scene.unload()
    found["unloaded"] = scene.right(scene.clean)
    scene.image(scene.with_lora(1))
    found |= {"second": scene.right(scene.expected(1)), "all on the card": scene.on_card()}
    scene.unload()
    return {**found, "used": scene.used()}


@attack
def unload_with_a_lora_and_back(scene: Scene) -> dict[str, Any]:
    one = scene.with_lora(1)
    scene.image(one)
    scene.unload()
    found = {"unloaded": scene.right(scene.clean), "used": scene.used()}
    scene.image(one)
    found["again"] = scene.right(scene.expected(1))
    scene.image(scene.with_lora(1, 2))
    found["both"] = scene.right(scene.expected(1, 2))
    return found


@attack
def file_touched_while_a_lora_goes(scene: Scene) -> dict[str, Any]:
    """Its time changes, its bytes do not: reading clean weights back is refused once."""
    scene.image(scene.with_lora(1))
    stat = scene.path.stat()
    os.utime(scene.path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    scene.image(scene.with_lora())
    found = {"none": scene.right(scene.expected()), "on the card": scene.on_card()}
    scene.image(scene.with_lora(2))
    found |= {"next": scene.right(scene.expected(2)), "next on the card": scene.on_card()}
    scene.image(scene.with_lora())
    found |= {"none again": scene.right(scene.expected()), "still on the card": scene.on_card()}
    return found


@attack
def card_full_while_a_lora_changes(scene: Scene) -> dict[str, Any]:
    scene.image(scene.with_lora(1))
    failed = ""
    try:
        with full():
            scene.image(scene.with_lora(2))
    except RuntimeError as error:
        failed = type(error).__name__
    found: dict[str, Any] = {"failed": failed}
    scene.image(scene.with_lora(2))
    found |= {"next": scene.right(scene.expected(2)), "on the card": scene.on_card()}
    scene.image(scene.with_lora())
    return {**found, "none": scene.right(scene.expected()), "still on the card": scene.on_card()}


@attack
def script_moves_the_model_home(scene: Scene) -> dict[str, Any]:
    """A script's `model.to("cpu")` frees the card, and the next load takes the model's room once."""
    before = scene.used()
    scene.image(scene.with_lora())
    once = scene.used() - before
    scene.model.to("cpu")
    freed = once - (scene.used() - before) >= scene.bytes
    scene.image(scene.with_lora())  # a new clone
    found = {"freed": freed, "right": scene.right(scene.clean), "on the card": scene.on_card()}
    gc.collect()
    return {**found, "once": scene.used() - before <= once}


@attack
def script_moves_it_with_a_lora(scene: Scene) -> dict[str, Any]:
    scene.image(scene.with_lora(1))
    scene.model.to("cpu")
    scene.image(scene.with_lora(2))
    found = {"other": scene.right(scene.expected(2)), "on the card": scene.on_card()}
    scene.model.to("cpu")
    scene.image(scene.with_lora())
    found |= {"none": scene.right(scene.clean), "still on the card": scene.on_card()}
    scene.unload()
    return {**found, "unloaded": scene.right(scene.clean)}


@attack
def change_on_the_card_before_a_lora(scene: Scene) -> dict[str, Any]:
    scene.image(scene.with_lora())
    changed = scene.spoiled(2)
    scene.image(scene.with_lora(1))
    found = {"merged": scene.right(scene.expected(1, clean=changed))}
    scene.image(scene.with_lora())
    found["none"] = scene.right(changed)
    scene.unload()
    return {**found, "unloaded": scene.right(changed)}


@attack
def change_on_the_card_over_a_lora(scene: Scene) -> dict[str, Any]:
    """As with the host: the next change of LoRAs puts the clean weight back."""
    scene.image(scene.with_lora(1))
    scene.spoiled(2)
    scene.image(scene.with_lora(2))
    return {"other": scene.right(scene.expected(2))}


@attack
def switched_off_with_a_lora_merged(scene: Scene) -> dict[str, Any]:
    scene.image(scene.with_lora(1))
    with torch.inference_mode():
        scene.undo()
    found = {
        "clean": scene.right(scene.clean),
        "used": scene.used(),
        "backup": len(scene.model.lora_loader.backup),
    }
    scene.image(scene.with_lora(2))  # the host's own way from here
    found |= {"next": scene.right(scene.expected(2)), "on the card": scene.on_card()}
    scene.image(scene.with_lora())
    return {**found, "none": scene.right(scene.clean)}


@attack
def switched_off_with_nothing_known_to_the_host(scene: Scene) -> dict[str, Any]:
    """The host has forgotten a script's clone, and its weights are still on the card, merged."""
    scene.image(scene.with_lora(1))
    scene.current = None
    scene.image(scene.with_lora(1))
    scene.manager.current_loaded_models.clear()
    scene.current = None
    scene.undo()
    return {"clean": scene.right(scene.clean), "used": scene.used()}


@attack
def backup_is_the_clean_weights(scene: Scene) -> dict[str, Any]:
    """Another extension's copy of `refresh` restores from it, and makes a backup of its own."""
    scene.image(scene.with_lora(1))
    loader = scene.model.lora_loader
    found = {"in it": sum(same(loader.backup[key], tensor) for key, tensor in scene.clean.items())}
    found["no copies"] = all(tensor.device == CPU for tensor in loader.backup.values())
    with torch.inference_mode():
        foreign_refresh(scene, {("lora-2", 1.0, 1.0, False): lists(2)})
    found |= {"other": scene.right(scene.expected(2)), "on the card": scene.on_card()}
    with torch.inference_mode():
        foreign_refresh(scene, {})
    found["none"] = scene.right(scene.clean)
    scene.unload()
    return {**found, "unloaded": scene.right(scene.clean), "used": scene.used()}


@attack
def lora_merged_and_on_the_fly_in_turns(scene: Scene) -> dict[str, Any]:
    scene.image(scene.with_lora(1))
    fly = scene.patcher.clone()
    fly.add_patches(filename="lora-2", patches=patches(2), online_mode=True)
    scene.image(fly)
    on_the_fly = sum(hasattr(layer, "forge_online_loras") for layer in scene.model.layers)
    found = {"clean": scene.right(scene.clean), "on the fly": on_the_fly, "on the card": scene.on_card()}
    both = scene.with_lora(3)
    both.add_patches(filename="lora-2", patches=patches(2), online_mode=True)
    scene.image(both)
    found["both"] = scene.right(scene.expected(3))
    scene.image(scene.with_lora(1))
    left = sum(hasattr(layer, "forge_online_loras") for layer in scene.model.layers)
    found |= {"merged": scene.right(scene.expected(1)), "left": left}
    scene.image(scene.with_lora())
    found["none"] = scene.right(scene.clean)
    scene.unload()
    return {**found, "used": scene.used()}


@attack
def somebody_else_writes_into_the_backup(scene: Scene) -> dict[str, Any]:
    """What stands there is what comes back, as with the host; what was taken out stays merged."""
    scene.image(scene.with_lora(1))
    backup = scene.model.lora_loader.backup
    backup["layers.1.weight"] = torch.ones(WIDTH, WIDTH, dtype=torch.bfloat16)
    del backup["layers.2.weight"]
    scene.image(scene.with_lora())
    expected = {**scene.clean, "layers.1.weight": torch.ones(WIDTH, WIDTH, dtype=torch.bfloat16)}
    expected["layers.2.weight"] = scene.expected(1)["layers.2.weight"]
    found = {"right": scene.right(expected), "on the card": scene.on_card()}
    scene.unload()
    return {**found, "unloaded": scene.right(expected), "used": scene.used()}


@attack
def object_patch_goes_with_the_model(scene: Scene) -> dict[str, Any]:
    clone = scene.with_lora()
    added = torch.nn.Linear(WIDTH, WIDTH)
    clone.add_object_patch("layers.3", added)
    own = scene.model.layers[3]
    scene.image(clone)
    found = {"patched in": added.weight.device == CARD, "on the card": scene.on_card()}
    scene.unload()
    return {**found, "home": added.weight.device == CPU, "its own again": scene.model.layers[3] is own}


@attack
def object_patch_over_a_merged_weight(scene: Scene) -> dict[str, Any]:
    """A script puts another layer in a merged one's place: what comes back once it goes is clean."""
    scene.image(scene.with_lora(1))
    own = scene.model.layers[3]
    clone = scene.patcher.clone()
    added = torch.nn.Linear(WIDTH, WIDTH, bias=False)
    before = added.weight.detach().clone()
    clone.add_object_patch("layers.3", added)
    scene.image(clone)
    found = {"others": scene.right(scene.clean), "its own": torch.equal(added.weight.cpu(), before)}
    scene.unload()
    found |= {"back": scene.model.layers[3] is own, "clean": scene.right(scene.clean)}
    scene.image(scene.with_lora(2))
    return {**found, "next": scene.right(scene.expected(2)), "on the card": scene.on_card()}


@attack
def weight_with_two_names(scene: Scene) -> dict[str, Any]:
    """A LoRA for one of them leaves the other as it is, on the card."""
    scene.model.other = torch.nn.Module()
    scene.model.other.weight = scene.model.layers[0].weight
    one = scene.patcher.clone()
    one.add_patches(filename="one", patches=patches(1, [0]))
    scene.image(one)
    found = {
        "merged": same(scene.model.layers[0].weight, scene.expected(1)["layers.0.weight"]),
        "other": same(scene.model.other.weight, scene.clean["layers.0.weight"]),
        "on the card": scene.model.other.weight.device == CARD,
    }
    scene.unload()
    return {
        **found,
        "one again": scene.model.other.weight is scene.model.layers[0].weight,
        "used": scene.used(),
    }


@attack
def unload_on_a_full_card(scene: Scene) -> dict[str, Any]:
    """Clean weights, merged ones, and one that somebody changed: nothing more is taken on the card."""
    one = scene.patcher.clone()
    one.add_patches(filename="one", patches=patches(1, [0, 1]))
    scene.image(one)
    changed = scene.spoiled(5)
    allocations = counted()
    with full():
        scene.unload()
    in_file = [find(parameter.detach()) is not None for parameter in scene.model.parameters()]
    found = {"right": scene.right(changed), "used": scene.used(), "allocations": allocations.count}
    return {**found, "still in their file": sum(in_file)}


def lists(seed: int) -> dict[str, Any]:
    return {key: [[1.0, patch, 1.0, None, None]] for key, patch in patches(seed).items()}


def foreign_refresh(scene: Scene, lora_patches: Any) -> None:
    """What an extension that brings its own does, in the host's words: restore from `backup`, merge, fill it."""
    from backend import utils
    from backend.patcher import lora

    loader = scene.model.lora_loader
    devices = lora.get_parameter_devices(loader.model)
    for key, weight in loader.backup.items():
        parameter = weight if isinstance(weight, torch.nn.Parameter) else torch.nn.Parameter(weight, False)
        utils.set_attr_raw(loader.model, key, parameter)
    loader.backup = {}
    lora.set_parameter_devices(loader.model, parameter_devices=devices)
    for patches_of_one in lora_patches.values():
        for key, current in patches_of_one.items():
            weight = utils.get_attr(loader.model, key)
            loader.backup[key] = weight.to(device=CPU)
            utils.set_attr_raw(loader.model, key, utils.tensor2parameter(scene.merged(current, weight, key)))
    loader.loaded_hash = str(list(lora_patches.keys()))


def wrapped_before_us(manager: Any, folder: Path) -> dict[str, Any]:
    """A wrapper around `refresh` that was there first sees every call; a merge replaced after us is used."""
    import functools

    from backend.patcher import lora

    original, merge = lora.LoraLoader.refresh, lora.merge_lora_to_weight
    seen = []

    @functools.wraps(original)
    def wrapper(loader: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(kwargs["lora_patches"]))
        return original(loader, *args, **kwargs)

    lora.LoraLoader.refresh = wrapper
    scene = Scene(manager, folder)
    merged = []

    def counting(*args: Any, **kwargs: Any) -> Any:
        merged.append(1)
        return merge(*args, **kwargs)

    lora.merge_lora_to_weight = counting
    try:
        scene.image(scene.with_lora(1))
        times = len(merged)
        right = scene.right(scene.expected(1))
        scene.image(scene.with_lora())
        scene.unload()
    finally:
        scene.end()
        lora.LoraLoader.refresh, lora.merge_lora_to_weight = original, merge
    return {"calls": seen, "merged": times, "right": right}


def tried(manager: Any, form: type[Scene], name: str) -> dict[str, Any]:
    """What came of one attack on weights of this form."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            if name == "wrapped_before_us":
                return wrapped_before_us(manager, Path(folder))
            scene = form(manager, Path(folder))
            try:
                return ATTACKS[name](scene)
            finally:
                scene.end()
                del scene
        except Exception:
            return {"raised": traceback.format_exc()}


def main() -> None:
    """The arguments: forms."""
    forms = [form for form in (Scene, FourBit, FourBitNested) if form.__name__ in sys.argv[1:]]
    found: dict[str, Any] = {}
    with contextlib.redirect_stdout(sys.stderr):
        manager = start()
        for form in forms:
            seen = found[form.__name__] = {}
            for name in [*ATTACKS, *(["wrapped_before_us"] if form is Scene else [])]:
                seen[name] = tried(manager, form, name)
                gc.collect()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
