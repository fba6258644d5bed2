"""Whether a model computes the same as before, whatever was done with it."""

from __future__ import annotations

import torch

from measure.places import add_product

from .scene import Scene


def check(scene: Scene, phase: str) -> None:
    """One step from fixed input, and every weight as it is on the device now."""
    add_product()
    from flux_speedup.weights.residency.digest import checksums

    transformer = scene.unet.model.diffusion_model
    random = torch.Generator().manual_seed(7)
    context = torch.randn(1, 256, transformer.txt_in.weight.shape[1], generator=random)
    vector = torch.randn(1, transformer.vector_in.in_layer.weight.shape[1], generator=random)
    x = scene.noise(7)
    conditions = scene.conditions(context, vector)
    found = scene.writer.timed(f"one step ({phase})", lambda: scene.predict(x, 0.7, conditions))
    scene.writer.output(f"{phase}: output", found)
    scene.cleanup()
    weights = [parameter.detach() for parameter in transformer.parameters()]
    if len({weight.device for weight in weights}) == 1:
        scene.writer.output(f"{phase}: weights", torch.as_tensor(checksums(weights)))
