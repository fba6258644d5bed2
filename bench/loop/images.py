"""The loop of a user: an image after the other."""

from __future__ import annotations

from .scene import Scene


def image(scene: Scene, number: int) -> None:
    """Encode a prompt, take the steps, decode: each with the move before it."""
    timed, engine, manager = scene.writer.timed, scene.engine, scene.forge.manager
    clip, vae = engine.forge_objects.clip, engine.forge_objects.vae
    timed("move text encoders", lambda: manager.load_model_gpu(clip.patcher), image=number)
    prompt = f"a photograph of {number} red foxes in the snow, evening light"
    cond = timed("encode", lambda: engine.get_learned_conditioning([prompt]), image=number)
    x = scene.noise(number)
    timed("move transformer", lambda: scene.prepare(x), image=number)
    name = f"{scene.options.steps} steps"
    latent = timed(name, lambda: scene.sample(x, cond), image=number)
    needed = vae.memory_used_decode(x.shape, vae.vae_dtype)
    load = [vae.patcher]
    timed("move VAE", lambda: manager.load_models_gpu(load, memory_required=needed), image=number)
    picture = timed("decode", lambda: engine.decode_first_stage(latent), image=number)
    for what, tensor in (("conditioning", cond["crossattn"]), ("latent", latent), ("picture", picture)):
        scene.writer.output(f"image {number}: {what}", tensor)
