"""GGUF weights on Forge's own memory manager, layers and LoRA loader, without us and with us.

Runs in Forge's environment on the second device: `test_gguf_on_forge.py` starts it and judges.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import mmap
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.attacks.forge_scene import CARD, CPU, attach, start
from tests.second_device import full, used

LAYERS, WIDTH = 6, 256
# Places of half floats in a block, of quantisations that the writer of the host's package cannot make.
SCALES = {"IQ4_NL": (0,), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}


def quantised(kind: str, seed: int) -> np.ndarray:
    import gguf

    quantisation = gguf.GGMLQuantizationType[kind]
    random = np.random.default_rng(seed)
    values = random.standard_normal((WIDTH, WIDTH), dtype=np.float32) / 30
    if kind not in SCALES:
        return gguf.quants.quantize(values, quantisation)
    block, size = gguf.GGML_QUANT_SIZES[quantisation]
    raw = random.integers(0, 256, (WIDTH * WIDTH // block, size), dtype=np.uint8)
    for at in SCALES[kind]:
        scale = (random.random(len(raw), dtype=np.float32) / 300).astype(np.float16)
        raw[:, at : at + 2] = scale[:, None].view(np.uint8)
    return raw.reshape(WIDTH, -1)


def write(path: Path, kind: str, seed: int = 0) -> None:
    import gguf

    writer = gguf.GGUFWriter(str(path), "flux")
    for number in range(LAYERS):
        raw = quantised(kind, seed + number)
        own = None if raw.dtype in (np.float16, np.float32) else gguf.GGMLQuantizationType[kind]
        writer.add_tensor(f"layers.{number}.weight", raw, raw_dtype=own)
        bias = np.random.default_rng(90 + number).standard_normal(WIDTH, dtype=np.float32)
        writer.add_tensor(f"layers.{number}.bias", bias)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


KINDS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "BF16", "F16", "F32"]


class Layers(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.diffusion_model = None  # what computes many times a load has one
        self.layers = torch.nn.ModuleList([torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x)) + x
        return x


class Scene:
    """A model of six quantised matrices over a GGUF file, as Forge builds one; `ours`: with us."""

    def __init__(self, manager: Any, file: Path, ours: bool, streaming: Any = None) -> None:
        from backend import operations
        from backend.patcher.base import ModelPatcher
        from backend.utils import load_torch_file

        from flux_speedup.hosts.forge import gguf_files
        from flux_speedup.weights.files.mapping import MAPPINGS

        self.manager, self.size = manager, file.stat().st_size
        manager.room = 1 << 30
        self.streaming, self.streamed = streaming, 0
        self.base = used()  # a table of the host's stays on the card once it is used
        self.undo: Callable[[], None] = attach(streaming) if ours else lambda: None
        kind = {"device": CPU, "dtype": torch.bfloat16, "manual_cast_enabled": False, "bnb_dtype": "gguf"}
        with torch.inference_mode(), operations.using_forge_operations(**kind):
            self.model = Layers()
            read = gguf_files.views(MAPPINGS, str(file)) if ours else load_torch_file(str(file))
            self.model.load_state_dict(read, strict=False)
        self.patcher = ModelPatcher(self.model, load_device=CARD, offload_device=CPU)
        self.current: Any = None

    def image(self, *seeds: int, room: int = 1 << 30, online: bool = False) -> str:
        """What a request with these LoRAs computes, on a card with so many bytes for weights."""
        clone = self.patcher.clone()
        for seed in seeds:
            clone.add_patches(filename=f"lora-{seed}", patches=patches(seed), online_mode=online)
        self.manager.room, self.current = self.base + room, clone
        x = torch.linspace(-1, 1, WIDTH * 3).reshape(3, WIDTH).bfloat16()
        with torch.inference_mode():
            self.manager.load_models_gpu([clone])
            answer = self.model(x.to(CARD)).cpu()
        return digest(answer)

    def weights(self) -> list[str]:
        """Of the quantised weights, where they are now."""
        return [
            f"{digest(layer.weight.data.cpu())} {layer.weight.data.device.type}"
            for layer in self.model.layers
        ]

    def unload(self) -> None:
        with torch.inference_mode():
            self.manager.unload_all_models()

    def in_file(self) -> int:
        from flux_speedup.weights.files.span import find

        return sum(
            find(layer.weight.data) is not None and not layer.weight.baked for layer in self.model.layers
        )

    def end(self) -> None:
        self.undo()
        self.manager.current_loaded_models.clear()


def digest(tensor: torch.Tensor) -> str:
    raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(raw).hexdigest()[:12]


def patches(seed: int) -> dict[str, Any]:
    random = torch.Generator().manual_seed(seed)
    up, down = (torch.randn(shape, generator=random) / 10 for shape in ((WIDTH, 4), (4, WIDTH)))
    return {f"layers.{n}.weight": ("lora", (up, down, 4.0, None, None)) for n in (0, 2, 3, 5)}


def story(scene: Scene) -> list[Any]:
    """Loads, unloads, loads in part, LoRAs; what is computed, and what lies on the card."""
    seen: list[Any] = [scene.image(), scene.weights()]
    scene.unload()
    seen += [scene.image(), scene.weights()]
    for seeds in ((1,), (2,), (1, 2), ()):
        try:
            seen += [scene.image(*seeds), scene.weights()]
        except RuntimeError:
            seen += ["the host cannot", None]
    return [*seen, scene.image(3, online=True), scene.weights()]


def host_moves_by_itself(scene: Scene) -> list[Any]:
    """In part, or as ours cannot (the card is full while weights go there), or is gone: none is baked before."""
    seen = [scene.image(), scene.image(room=scene.size // 2)]
    scene.unload()
    with full(scene.size // 3), contextlib.suppress(torch.OutOfMemoryError):
        scene.image()
    seen += [scene.image()]
    scene.undo()
    scene.undo = lambda: None
    seen += [scene.image(), scene.weights()]
    scene.unload()
    return [*seen, scene.image()]


def streams(scene: Scene) -> list[Any]:
    """On a card that is too small, with LoRAs that come and go; then whole again."""
    small = scene.size * 3 // 4
    seen = [scene.image()]
    scene.unload()
    seen += [scene.image(room=small) for _ in range(3)]
    if scene.streaming is not None:
        found = scene.streaming.models.of(scene.model)
        scene.streamed = found.split.streaming if found is not None else 0
    for seeds in ((1,), (2,), ()):
        try:
            seen += [scene.image(*seeds, room=small), scene.image(*seeds, room=small)]
        except NotImplementedError:
            seen += ["the host cannot"]
    seen += [scene.image(3, room=small, online=True), scene.image(room=small)]
    scene.unload()
    return [*seen, scene.image(), scene.image(room=small)]


def stream_too() -> Any:
    """Our streaming, of what is as small as here; nothing of it may fail."""
    from flux_speedup.hosts.forge import need, split_models, splits, streamed, streaming
    from flux_speedup.weights.residency import signature
    from flux_speedup.weights.residency.placement import Placement
    from flux_speedup.weights.streaming import split, timeline
    from flux_speedup.weights.transfer.direct import Direct
    from flux_speedup.weights.transfer.lane import PlainLane

    need.KINDS, need.QUIET, need.OURS, split_models.LEAST_MODEL = ("hpu",), 1 << 12, 1 << 12, 1 << 10
    signature._ROWS, signature._COLUMNS, streamed.RING, split.LEAST = (1,), 1 << 10, 1 << 18, 1 << 10
    splits.timeline_for = timeline.PlainTimeline
    return streaming.Streaming(Placement(lanes=PlainLane), Direct())


def judged(manager: Any, kind: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "weights.gguf")
        write(file, kind)
        found: dict[str, Any] = {}
        stories = {"story": story, "host": host_moves_by_itself, "streams": streams}
        for name, told in stories.items() if kind in ("Q8_0", "Q4_K") else [("story", story)]:
            for ours in (False, True):
                before = used()
                scene = Scene(manager, file, ours, stream_too() if ours and told is streams else None)
                try:
                    found[f"{name} {'ours' if ours else 'alone'}"] = told(scene)
                    scene.unload()
                    if ours and told is not host_moves_by_itself:
                        found |= {f"{name} in file": scene.in_file(), f"{name} used": used() - before}
                        found["streamed"] = scene.streamed
                finally:
                    scene.end()
                    del scene
                gc.collect()
        return found


@contextlib.contextmanager
def read_only() -> Iterator[None]:
    """As on Windows, nobody may write into a mapped file: whoever did would end this process."""
    from flux_speedup.weights.files import mapped, mapping
    from flux_speedup.weights.files.read_only import ReadOnly

    before = mapping.mapped, mapped.bytes_of
    mapping.mapped = lambda file, size: mmap.mmap(file, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    mapped.bytes_of = lambda buffer, at, size: torch.from_numpy(np.asarray(ReadOnly(buffer, at, size)))
    yield
    mapping.mapped, mapped.bytes_of = before


def main() -> None:
    found: dict[str, Any] = {}
    kinds = sys.argv[1:] or KINDS
    with contextlib.redirect_stdout(sys.stderr):
        manager = start()
        with read_only():
            found["read only"] = judged(manager, "Q8_0")
        for kind in kinds:
            try:
                found[kind] = judged(manager, kind)
            except Exception:
                found[kind] = {"raised": traceback.format_exc()}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
