"""From one checkpoint to the other and back, with LoRAs before and after a switch."""

from __future__ import annotations

from collections.abc import Callable

LORA_A, LORA_B = "<lora:tiny-lora-a:1>", "<lora:tiny-lora-b:0.7>"


def there_and_back(image: Callable[..., object]) -> None:
    """`image(checkpoint, prompt, **more)` makes one; the second checkpoint is in use before."""
    image("one")
    image("one", f"a cat {LORA_A}")
    image("two", f"a cat {LORA_A}")
    image("two", f"a cat {LORA_A} {LORA_B}", seed=2)
    image("one", f"a cat {LORA_B}")
    image("two", f"a dog {LORA_A} {LORA_B}")
    image("one")
