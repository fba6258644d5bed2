"""What a user does between images: unload and reload, other checkpoints, LoRAs."""

from __future__ import annotations

from pathlib import Path

import torch

from .check import check
from .lora import RANK, lora, merge_all
from .scene import Scene


def steps(scene: Scene, second: Path) -> None:
    """Unload and reload, LoRAs on, changed and off, checkpoints A -> B -> A -> B."""
    timed, manager = scene.writer.timed, scene.forge.manager
    x, first = scene.noise(0), scene.files[0]
    clip = scene.engine.forge_objects.clip.patcher
    timed("first move of the text encoders", lambda: manager.load_model_gpu(clip))
    timed("first move of the transformer", lambda: scene.prepare(x))
    check(scene, "first")
    ram(scene, "loaded once")
    timed("unload_all_models", manager.unload_all_models)
    timed("reload of the text encoders", lambda: manager.load_model_gpu(clip))
    timed("reload of the transformer", lambda: scene.prepare(x))
    check(scene, "after unload and reload")
    ram(scene, "loaded twice")
    for name, file in (("A -> B", second), ("B -> A", first), ("A -> B again", second)):
        clip = None
        scene.build(f"switch {name}: model", file)
        timed(f"switch {name}: move transformer", lambda: scene.prepare(x))
        check(scene, f"switch {name}")
    loras(scene, x)


def ram(scene: Scene, phase: str) -> None:
    """Memory of this process that no file stands behind (Linux)."""
    rollup = Path("/proc/self/smaps_rollup")
    lines = rollup.read_text().splitlines() if rollup.exists() else []
    size = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:")), 0)
    scene.writer.row(f"{'anonymous memory, ' + phase:44s} {size / 1e9:9.2f} GB", phase=phase, bytes=size)


def loras(scene: Scene, x: torch.Tensor) -> None:
    """The same LoRA on, weaker, loaded again with it, and off."""
    timed, manager, plain = scene.writer.timed, scene.forge.manager, scene.unet
    patches = lora(scene.unet.model)
    scene.writer.row(f"a LoRA of rank {RANK} for {len(patches)} weights", phase="lora")
    timed("LoRA: the arithmetic alone", lambda: merge_all(plain, patches))
    for name, strength in (("on", 1.0), ("changed", 0.5), ("on, after unload and reload", None)):
        if strength is None:
            timed("LoRA: unload_all_models", manager.unload_all_models)
        else:
            changed = plain.clone()
            changed.add_patches(filename="made here", patches=patches, strength_patch=strength)
            scene.engine.forge_objects.unet = changed
        timed(f"LoRA {name}", lambda: scene.prepare(x))
        check(scene, f"LoRA {name}")
    scene.engine.forge_objects.unet = plain
    timed("LoRA off", lambda: scene.prepare(x))
    check(scene, "LoRA off")
