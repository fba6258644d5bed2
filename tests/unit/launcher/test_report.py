"""The table of ./run --once, and what makes it fail."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from launcher.once import same_images
from launcher.report import NO_FIGURES, table

OUTCOMES = [
    {"title": "Weights stay in their files", "state": "applied", "why": "the GPU is a cache over the files"},
    {"title": "Copy streams", "state": "skipped", "why": "no CUDA here"},
]


def result() -> dict[str, Any]:
    keys = ("start_s", "load_s", "move_s", "switch_s", "switch_back_s", "unload_s")
    images = [{"seconds": 0.5, "sha256": str(number)} for number in range(3)]
    seconds = {key: 1.0 + number for number, key in enumerate(keys)}
    found = {"images": images, "switch_images": [{"seconds": 0.25, "sha256": "s"}]}
    extension = {"extension": {"outcomes": OUTCOMES}}
    return {
        **seconds,
        **found,
        "lora_images": [dict(images[0])],
        "little_images": [dict(images[0]), dict(images[2])],
        **extension,
    }


def test_is_headed_by_the_device_and_shows_both_runs() -> None:
    faster = result() | {"load_s": 0.125}
    lines = table(result(), faster, "a card", simulated=False).splitlines()
    assert lines[0] == "a card"
    assert lines[2].split() == ["seconds", "without", "with"]
    assert "load the checkpoint                2.000     0.125" in lines
    assert sum(line.endswith("same bytes") for line in lines) == 7


def test_says_above_figures_of_a_stand_in_that_they_are_none() -> None:
    lines = table(result(), result(), "our stand-in", simulated=True).splitlines()
    assert lines[:2] == ["our stand-in", NO_FIGURES]
    assert lines[4].split() == ["seconds", "without", "with"]


def test_names_what_was_in_force_and_why_the_rest_was_not() -> None:
    lines = table(result(), result(), "", simulated=False).splitlines()
    assert lines[-4:] == [
        "1 of 2 changes were in force:",
        "  Weights stay in their files",
        "not in force:",
        "  Copy streams: skipped, no CUDA here",
    ]


def test_an_image_that_differs_is_named_and_fails() -> None:
    other = copy.deepcopy(result())
    other["images"][1]["sha256"] = "another"
    lines = table(result(), other, "", simulated=False).splitlines()
    assert [line[:7] for line in lines if line.endswith("DIFFERENT")] == ["image 2"]
    assert same_images(result(), result())
    assert not same_images(result(), other)


@pytest.mark.parametrize("kind", ["lora_images", "switch_images", "little_images"])
def test_any_other_image_that_differs_fails_too(kind: str) -> None:
    other = copy.deepcopy(result())
    other[kind][0]["sha256"] = "another"
    assert not same_images(result(), other)
