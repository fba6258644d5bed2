"""What is asked of a WebUI, in the order in which a user would ask it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Body = dict[str, Any]

CAT, DOG = "a photograph of a cat", "a red dog in the snow"


class Asking(Protocol):
    """A WebUI that is up: `image` asks for a picture and keeps what it took, under `name`."""

    steps: tuple[int, int]
    checkpoint: str
    second: str | None
    loras: tuple[str, ...]
    detector: str | None

    def image(self, name: str, **body: Any) -> str | None: ...

    def unload(self) -> None: ...

    def pause(self, seconds: float) -> None: ...


def first(ask: Asking) -> None:
    ask.image("first")


def repeat(ask: Asking) -> None:
    ask.image("again")


def prompt(ask: Asking) -> None:
    ask.image("new prompt", prompt=DOG, seed=2)


def hires(ask: Asking) -> None:
    ask.image("hires fix", **_hires(ask))


def _hires(ask: Asking) -> Body:
    return {
        "enable_hr": True,
        "hr_scale": 1.25,
        "hr_upscaler": "Latent",
        "denoising_strength": 0.5,
        "hr_second_pass_steps": max(1, ask.steps[1] // 2),
        "hr_additional_modules": ["Use same choices"],
        "hr_cfg": 1,
        "hr_distilled_cfg": 3.5,
    }


def img2img(ask: Asking) -> None:
    picture = ask.image("before img2img")
    if picture is not None:
        ask.image("img2img", init_images=[picture], denoising_strength=0.6)


def lora(ask: Asking) -> None:
    if len(ask.loras) < 2:
        return
    one, two = ask.loras
    ask.image("LoRA on", prompt=f"{CAT} <lora:{one}:0.8>")
    ask.image("LoRA changed", prompt=f"{CAT} <lora:{two}:0.8>")
    ask.image("LoRA weight", prompt=f"{CAT} <lora:{two}:0.5>")
    ask.image("LoRA off")


def switch(ask: Asking) -> None:
    if ask.second is None:
        return
    ask.image("checkpoint B", override_settings={"sd_model_checkpoint": ask.second})
    ask.image("back to A", override_settings={"sd_model_checkpoint": ask.checkpoint})
    ask.image("back to B", override_settings={"sd_model_checkpoint": ask.second})
    ask.image("A again")


def unload(ask: Asking) -> None:
    ask.unload()
    ask.image("after unloading")


def pause(ask: Asking) -> None:
    """Somebody looks at the picture: what is prepared while nobody asks for anything is done meanwhile."""
    ask.pause(20)


def swap(ask: Asking) -> None:
    """Two numbers of steps, otherwise alike: their difference is what a step costs. Each encodes a new prompt."""
    few, many = ask.steps
    ask.image("few steps", prompt=f"{CAT} on a roof", seed=3, steps=few)
    ask.image("more steps", prompt=f"{CAT} on a wall", seed=3, steps=many)


def seed(ask: Asking) -> None:
    """What the log that this project began with shows: hires fix, then ADetailer three times; A, B, A."""
    if ask.detector is None:
        return
    passes = [{"ad_model": ask.detector, "ad_mask_k": 1, "ad_prompt": each} for each in (CAT, DOG, "a hand")]
    body = {**_hires(ask), "alwayson_scripts": {"ADetailer": {"args": [True, False, *passes]}}}
    ask.image("seed's request, A", **body)
    if ask.second is not None:
        ask.image("seed's request, B", **body, override_settings={"sd_model_checkpoint": ask.second})
        ask.image(
            "seed's request, A again", **body, override_settings={"sd_model_checkpoint": ask.checkpoint}
        )


CASES: dict[str, Callable[[Asking], None]] = {
    case.__name__: case
    for case in (first, repeat, prompt, swap, hires, img2img, lora, switch, unload, seed, pause)
}
UNASKED = {"pause"}
"""Only where they are named."""
