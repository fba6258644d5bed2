"""Steps of a model that streams: layers with a file's weights, of which as much stays on the device as is said."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from flux_speedup.weights.files.mapping import MAPPINGS, Mapping
from flux_speedup.weights.streaming.origin import Origin
from flux_speedup.weights.streaming.ring import ring_bytes
from flux_speedup.weights.streaming.split import units_of
from flux_speedup.weights.streaming.spread import Cost, streamed
from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.timeline import Timeline, timeline_for
from flux_speedup.weights.transfer.direct import Direct

from .timing import Timing

RING = 512 << 20
STAY = (10, 6, 2)
"""GiB of a whole Flux transformer, the ring among them; of a smaller one the same shares."""
WHOLE = 23_802_816_640
TOKENS = 4096 + 256  # of a picture of one megapixel, and of its text
_BRIEF = ("mod.lin", "in_layer", "out_layer")  # layers that see one token


class Layer(torch.nn.Module):
    """Weights of one module of the file. `compare`: what it is run with against the file.

    `tokens`: it computes with so many, and keeps what comes `out` for the first; with none a step takes what
    bringing takes.
    """

    def __init__(self, name: str, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.home = weights
        self.brief = name.endswith(_BRIEF)
        self.compare = False
        self.tokens = 0
        self.out: torch.Tensor | None = None
        for own, weight in weights.items():
            self.register_parameter(own, torch.nn.Parameter(weight, requires_grad=False))

    def go(self, device: torch.device | None) -> None:
        """To stay there; None: home."""
        for name, weight in self.home.items():
            self.get_parameter(name).data = weight if device is None else weight.to(device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, weight in self.home.items() if self.compare else ():
            if not torch.equal(_bits(self.get_parameter(name)), _bits(weight.to(x.device))):
                raise SystemExit("a weight streamed in with other bytes")
        weight = self._parameters.get("weight")
        if self.tokens and weight is not None and weight.dim() == 2:
            seen = x[: 1 if self.brief else self.tokens, : weight.shape[1]]
            bias = self._parameters.get("bias")
            self.out = torch.nn.functional.linear(seen.to(weight.dtype), weight, bias)[0].clone()
        return x


def layers_of(mapping: Mapping) -> torch.nn.Sequential:
    """As the host's model has them: a weight with its bias."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, view in mapping.views().items():
        module, _, own = name.rpartition(".")
        found.setdefault(module, {})[own] = view
    return torch.nn.Sequential(*(Layer(name, weights) for name, weights in found.items()))


class Steps:
    """One model on one device, from registered pages or, without `direct`, from the page cache through staging."""

    def __init__(self, timing: Timing, timeline: Timeline, mapping: Mapping, direct: Direct | None) -> None:
        self._timing, self._timeline = timing, timeline
        self._model = layers_of(mapping)
        self._units = units_of(self._model, lambda module: isinstance(module, Layer), lambda one: one.nbytes)
        self._origin = Origin(timeline, MAPPINGS, direct)
        self._origin.choose([weight for layer in self._units for weight in layer.parameters()])
        self.size = sum(unit.bytes for unit in self._units.values())
        self._right: list[torch.Tensor] = []

    def run(self, label: str, stay: int = 0, tokens: int = 0) -> float:
        """A row: a step with `stay` bytes on the device, the ring among them; the best one's seconds."""
        largest = max(unit.bytes for unit in self._units.values())
        ring = ring_bytes(stay or self.size, largest, RING)
        costs = [Cost(unit.bytes) for unit in self._units.values()]
        chosen = streamed(costs, self.size - max(0, stay - ring)) if stay < self.size else []
        coming = {layer: unit for at, (layer, unit) in enumerate(self._units.items()) if at in set(chosen)}
        wide = max(weight.shape[-1] for layer in self._units for weight in layer.parameters())
        x = torch.full((max(1, tokens), wide), 0.01, dtype=torch.bfloat16, device=self._timing.device)
        with self._stream(coming, ring, tokens), torch.inference_mode():
            for compare in (not tokens, False):
                self._set(compare=compare)
                self._model(x)
            seconds = [self._timing.timed(lambda: self._model(x))[0] for _ in range(self._timing.repeats)]
        same = self._same() if tokens else None
        moved, words = sum(unit.bytes for unit in coming.values()), self._origin.words(coming.values())
        return self._timing.add(label, seconds, moved, source=words, same=same)

    def _same(self) -> bool:
        """Whether the layers computed what they did the first time, bit for bit; weights are never waited for."""
        outs = [layer.out for layer in self._model if layer.out is not None]
        self._right = self._right or outs
        return all(
            torch.equal(_bits(one), _bits(other)) for one, other in zip(outs, self._right, strict=True)
        )

    def close(self) -> None:
        """Nothing is held any more."""
        self._origin.close()
        self._timing.empty_cache()

    @contextlib.contextmanager
    def _stream(self, coming: dict[torch.nn.Module, object], ring: int, tokens: int) -> Iterator[None]:
        staying = [layer for layer in self._model if layer not in coming]
        stream = Stream(self._units, self._timeline, self._origin.supply(), ring, pieces=self._origin.pieces)
        try:
            for layer in staying:
                layer.go(self._timing.device)
            stream.set_streamed({layer: unit for layer, unit in self._units.items() if layer in coming})
            self._set(tokens=tokens)
            yield
        finally:
            stream.close()
            for layer in staying:
                layer.go(None)

    def _set(self, **what: int) -> None:
        for layer in self._model:
            vars(layer).update(what)


def measured(timing: Timing, label: str, mapping: Mapping) -> dict[str, float]:
    """Seconds of a step by what it is: all of it streamed, then with computing and less and less that stays."""
    timeline = timeline_for(timing.device)
    if timeline is None:
        return {}
    found: dict[str, float] = {}
    card = timing.device.type == "cuda"
    tokens = TOKENS if card else 8

    def row(steps: Steps, name: str, *how: int) -> None:
        found[name] = steps.run(f"{label}: {name}", *how)

    for direct in (None, Direct()) if card else (None,):
        steps = Steps(timing, timeline, mapping, direct)
        if direct is None:
            row(steps, "a step, all of it streamed from the page cache")
        if direct is not None or not card:
            row(steps, "a step, all of it streamed")
            row(steps, "a step that computes, nothing streamed", steps.size, tokens)
            for gib in STAY:
                row(
                    steps,
                    f"a step that computes, {gib} GiB of {_gib(WHOLE)} stay",
                    _share(steps, gib),
                    tokens,
                )
        steps.close()
        if direct is not None:
            direct.release_all()
    return found


def _share(steps: Steps, gib: int) -> int:
    return (gib << 30) * steps.size // WHOLE


def _gib(size: int) -> int:
    return round(size / (1 << 30))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)
