"""A weight's whole life, as a host lives it: built, loaded, merged, cleaned, dropped, changed, saved, kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from flux_speedup.weights.errors import WeightsError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.transfer.lane import PlainLane
from tests.faults.injector import Faults
from tests.second_device import CARD
from tests.unit.weights.weight_files import module_of, random_tensor, raw_bytes, residency_of

HOME = torch.device("cpu")
REGISTRY = Registry()
"""As in a process of a WebUI, where one registry watches over all files."""
Truth = dict[str, bytes]


def tensors(kind: str) -> dict[str, torch.Tensor]:
    """What one file of a kind holds: more than one chunk, one of under a chunk, one that is nearly nothing."""
    dtype = {
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
        "fp32": torch.float32,
        "fp8": torch.float8_e4m3fn,
    }[kind]
    shapes = {"big": (300, 400), "other": (128, 96), "small": (3,)}
    return {name: random_tensor(shape, dtype, seed) for seed, (name, shape) in enumerate(shapes.items())}


class Model:
    """A model that a host has built from a file, and what its weights have to be."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.registry = REGISTRY
        given = tensors(kind)
        self.file: Truth = {name: raw_bytes(tensor) for name, tensor in given.items()}
        self.ram = random_tensor((64, 64), torch.float32, 9)
        self.truth: Truth = {**self.file, "ram": raw_bytes(self.ram)}
        self.module: Any = None
        self.residency: Residency | None = None
        self.backup: dict[str, torch.nn.Parameter] = {}

    def build(self) -> None:
        """As a host does; its own loader is taken where the file cannot be mapped."""
        try:
            views = self.registry.open(self.path).views()
        except WeightsError:
            from safetensors.torch import load_file

            views = load_file(self.path)
        self.module = module_of({**views, "ram": self.ram.clone()})
        self.residency = residency_of(self.module, self.registry, lanes=PlainLane)

    def to_card(self, names: set[str] | None = None) -> None:
        """By us, and by the host's own move for whatever is not there then."""
        assert self.residency is not None
        with contextlib.suppress(WeightsError):
            self.residency.load(CARD, names)
        for name, parameter in self.module.named_parameters():
            if (names is None or name in names) and parameter.device != CARD:
                parameter.data = parameter.data.to(CARD)

    def to_home(self) -> None:
        assert self.residency is not None
        with contextlib.suppress(WeightsError):
            self.residency.unload()
        for parameter in [*self.module.parameters(), *self.backup.values()]:
            if parameter.device != HOME:
                parameter.data = parameter.data.to(HOME)

    def merge(self, names: set[str], faults: Faults) -> None:
        """A LoRA comes: merged weights take the places of the clean ones, which go home and are its backup."""
        assert self.residency is not None
        leave = self.residency.leaving(names)
        for name in sorted(names):
            clean = self.module.get_parameter(name)
            with faults.paused():
                merged = clean.data.clone()
                merged.view(torch.uint8).bitwise_xor_(0x15)
            self.backup[name] = clean
            setattr(self.module, name, torch.nn.Parameter(merged, requires_grad=False))
            leave(clean)

    def clean(self, names: set[str]) -> None:
        """The LoRA goes: the clean weights are the module's again, and are read anew."""
        for name in sorted(names & set(self.backup)):
            setattr(self.module, name, self.backup.pop(name))
        self.to_card()

    def change(self, name: str, faults: Faults) -> None:
        """Somebody writes into a weight on the card: that is what it is from now on."""
        with faults.paused():
            data = self.module.get_parameter(name).data
            if data.device == HOME:  # a view of the file: this would be its owner's own copy from then on
                data = data.clone()
                self.module.get_parameter(name).data = data
            data.view(torch.uint8).bitwise_xor_(0x2A)
            self.truth[name] = raw_bytes(data.to(HOME))

    def wrong(self) -> list[str]:
        """Names of weights that are not what they have to be."""
        return [
            name
            for name, p in self.module.named_parameters()
            if raw_bytes(p.data.to(HOME)) != self.truth[name]
        ]


Step = tuple[str, Callable[[Model, Faults], None]]


def steps() -> Iterator[Step]:
    """In the order of an evening's work; each leaves a model that can be computed with."""
    yield "build", lambda model, _: model.build()
    yield "load", lambda model, _: model.to_card()
    yield "a LoRA comes", lambda model, faults: model.merge({"big", "small"}, faults)
    yield "the LoRA goes", lambda model, _: model.clean({"big", "small"})
    yield "unload", lambda model, _: model.to_home()
    yield "load a part", lambda model, _: model.to_card({"big"})
    yield "load the rest", lambda model, _: model.to_card()
    yield "another LoRA comes", lambda model, faults: model.merge({"other"}, faults)
    yield "unload with the LoRA", lambda model, _: model.to_home()
    yield "load again", lambda model, _: model.to_card()
    yield "the other LoRA goes", lambda model, _: model.clean({"other"})
    yield "somebody changes a weight", lambda model, faults: model.change("other", faults)
    yield "unload the changed", lambda model, _: model.to_home()
    yield "load the changed", lambda model, _: model.to_card()
    yield "put aside", lambda model, _: model.to_home()
