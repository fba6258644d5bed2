"""The table of ./run --once, and what makes it fail."""

from __future__ import annotations

import copy
from typing import Any

from launcher.once import same_images
from launcher.report import table


def result() -> dict[str, Any]:
    keys = ("start_s", "load_s", "move_s", "switch_s", "switch_back_s", "unload_s")
    images = [{"seconds": 0.5, "sha256": str(number)} for number in range(3)]
    seconds = {key: 1.0 + number for number, key in enumerate(keys)}
    return {**seconds, "images": images, "switch_images": [{"seconds": 0.25, "sha256": "s"}]}


def test_is_headed_by_the_device_and_shows_both_runs() -> None:
    faster = result() | {"load_s": 0.125}
    lines = table(result(), faster, "simulated device, our stand-in").splitlines()
    assert lines[0] == "simulated device, our stand-in"
    assert lines[2].split() == ["seconds", "without", "with"]
    assert "load the checkpoint                2.000     0.125" in lines
    assert sum(line.endswith("same bytes") for line in lines) == 4


def test_an_image_that_differs_is_named_and_fails() -> None:
    other = copy.deepcopy(result())
    other["images"][1]["sha256"] = "another"
    lines = table(result(), other, "").splitlines()
    assert [line[:7] for line in lines if line.endswith("DIFFERENT")] == ["image 2"]
    assert same_images(result(), result())
    assert not same_images(result(), other)


def test_an_image_after_a_switch_that_differs_fails_too() -> None:
    other = copy.deepcopy(result())
    other["switch_images"][0]["sha256"] = "another"
    assert not same_images(result(), other)
