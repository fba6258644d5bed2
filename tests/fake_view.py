"""A `Seen` in memory, and the acts on it: what the tab, the settings section and the API are shown in tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from flux_speedup.facts.view import Checkpoint, ConfigRow, LeftOut, MemoryUse, Status, StreamedUse
from flux_speedup.hosts.common.forms import FormUse
from flux_speedup.hosts.common.inside import Model, Refused
from flux_speedup.local_models.report import LocalWeight, WeightState
from flux_speedup.patching.table import Outcome, State
from flux_speedup.stats.events import NEWEST, Event, Query, Totals
from flux_speedup.stats.first_image import FirstImage
from flux_speedup.stats.machine import Machine, Measuring, Savings
from flux_speedup.stats.requests import Pass, Request, Steps
from flux_speedup.stats.starts import Start
from flux_speedup.weights.packed.progress import FileProgress, PackedNow

OUTCOMES = (
    Outcome("tier.vram_state", "VRAM mode: high", State.APPLIED, "the whole model fits on this card"),
    Outcome("tier.inference", "25 % of VRAM kept for inference", State.APPLIED, "large tier, 80 GB card"),
    Outcome("streams", "Copy streams", State.APPLIED, "a CUDA stream could be created"),
    Outcome("pinning", "Pinned weights", State.APPLIED, "weights are read by the card directly"),
    Outcome("timing", "Timing of loads", State.PENDING, "waits for backend.loader"),
    Outcome("attention", "Attention kernels", State.SKIPPED, "off in Settings"),
    Outcome("allocator", "Allocator", State.FAILED, "CUDA was initialised before; the default stays"),
)

# Markup, quotes, right-to-left text, its override character, a newline, an emoji, what is no Unicode.
NASTY = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\"quoted\" & 'single' `back`",
    "מודל-עברי.safetensors",
    "evil\u202egnp.exe",
    "two\nlines",
    "🚀 rocket.safetensors",
    "lone \udce9 surrogate",
)


def flux_day(now: float) -> list[Event]:
    """Two starts, two checkpoints, seven moves and five unloads, oldest first."""
    earlier = [("launcher", 0.4), ("import torch", 9.0), ("load scripts", 5.0), ("total", 14.4)]
    this = [("launcher", 0.4), ("import torch", 6.6), ("load scripts", 0.68), ("create ui", 2.1)]
    this.append(("total", 9.8))
    found = [Event("startup", what, 0, s, "", "", now - 9000 + i) for i, (what, s) in enumerate(earlier)]
    found += [Event("startup", what, 0, s, "", "", now - 600 + i) for i, (what, s) in enumerate(this)]
    found.append(Event("checkpoint", "flux1-dev.safetensors", 23_800_000_000, 1.9, "disk", "RAM", now - 500))
    found.append(Event("checkpoint", "flux1-schnell.safetensors", 11_900_000_000, 1.2, "", "RAM", now - 300))
    encoders, vae = ("text encoders", 9_800_000_000, 0.22), ("vae", 168_000_000, 0.01)
    transformer = ("transformer", 23_800_000_000, 0.5)
    moves = [encoders, transformer, vae, encoders, transformer, vae, encoders]
    for i, (what, size, s) in enumerate(moves):
        at = now - 250 + i * 30
        found.append(Event("move", what, size, s, "page cache", "GPU", at))
        if i < 5:
            found.append(Event("unload", what, size, 0.004, "GPU", "", at + 10))
    return found


def flux_requests(now: float) -> list[Request]:
    """Newest first: one that runs, a plain one, one with everything in it, one that failed, a cold one."""
    base = {"text encoding": 0.4, "sampling": 9.6, "vae": 0.5}
    everything = {
        "load": 1.9,
        "move": 1.42,
        "unload": 0.02,
        "text encoding": 0.8,
        "sampling": 23.4,
        "vae": 1.6,
        "adetailer": 31.7,
        "other": 1.16,
    }
    whole, streamed = Steps(36, 0.2522), Steps(20, 0.714, 0.0212, 13_600_000_000)
    first = {"load": 1.9, "move": 0.74, "text encoding": 0.4, "sampling": 9.1, "vae": 0.76}
    second = {"move": 0.26, "text encoding": 0.4, "sampling": 14.3, "vae": 0.84, "other": 0.2}
    passes = (
        Pass("txt2img", 12.9, first, whole),
        Pass("hires", 16.0, second, streamed),
        Pass("ADetailer 1", 19.1, {"move": 0.22, "adetailer": 18.5, "other": 0.38}),
        Pass("ADetailer 2", 14.0, {"move": 0.2, "unload": 0.02, "adetailer": 13.2, "other": 0.58}),
    )
    cold = {"load": 8.1, "move": 2.4, "text encoding": 0.6, "sampling": 9.7, "vae": 0.6, "other": 1.2}
    failed = {"load": 0.3, "other": 0.1}
    alone = (Pass("txt2img", 10.6, base, streamed),)
    return [
        Request(15, "txt2img", "page", now - 6, 5.9, {"move": 0.5, "text encoding": 0.4, "sampling": 5.0},
                bytes=33_600_000_000, running=True),
        Request(14, "txt2img", "API", now - 40, 10.7, {**base, "other": 0.2}, alone, images=1),
        Request(13, "txt2img", "page", now - 130, 62.0, everything, passes, 67_500_000_000, 4),
        Request(12, "img2img", "API", now - 180, 0.4, failed, failed=True),
        Request(11, "txt2img", "page", now - 260, 22.6, cold, (), 33_768_000_000, 1),
    ]  # fmt: skip


WEIGHTS = tuple(
    LocalWeight(name, "detector", WeightState(state), path, size, why)
    for name, state, path, size, why in (
        ("face_yolov8n.pt", "found", "models/adetailer/face_yolov8n.pt", 6_230_000, ""),
        ("hand_yolov8n.pt", "redirected", "weights/hand_yolov8n.pt", 6_240_000, ""),
        ("person_yolov8s-seg.pt", "downloaded", "", 23_900_000, "was not on this machine"),
        ("yolov8x-worldv2.pt", "missing", "", 0, "the WebUI downloads it when it is used"),
        ("ESRGAN_4x.pth", "refused", "models/ESRGAN/ESRGAN_4x.pth", 1_200, "too small"),
    )
)
FORMS = (
    FormUse("transformer", "bf16", "file", 704, 23_700_000_000),
    FormUse("transformer", "bf16", "RAM", 76, 76_000_000),
    FormUse("text encoders", "GGUF Q8_0", "file, made on the card", 169, 5_060_000_000),
    FormUse("text encoders", "NF4", "WebUI", 24, 520_000_000, "quantised by the WebUI itself"),
)
MODELS = (
    Model("dev", "flux1-dev.safetensors", "in use", 33_600_000_000, 33_768_000_000, 920_000_000, FORMS),
    Model("schnell", "flux1-schnell-fp8.safetensors", "kept", 17_200_000_000, 0, 880_000_000),
)
MEMORY = MemoryUse(
    (("transformer", 23_800_000_000), ("text encoders", 9_800_000_000), ("vae", 168_000_000)),
    36_900_000_000,
    84_900_000_000,
    50_800_000_000,
    6_100_000_000,
    268_000_000,
    151_000_000_000,
    216_000_000_000,
    (
        StreamedUse(
            "transformer", 23_800_000_000, 9_600_000_000, 512_000_000, 512_000_000, "registered file pages"
        ),
    ),
    2_000_000_000,
)
MACHINE = Machine(0.0, "NVIDIA H100 80GB HBM3", 3.1, 51.7, 55.2, 6.4, 4.1)
PACKED = PackedNow(
    "Packed weights are on: 17.9 GB for the 23.8 GB of flux1-dev.safetensors, bit for bit: from the disk in "
    "5.77 s, not 7.68 s, from registered pages in 324 ms, not 431 ms, where the card decodes fast enough.",
    True,
    False,
    25_300_000_000,
    68_719_476_736,
    (
        FileProgress("flux1-dev.safetensors", 23_800_000_000, 23_800_000_000, "packed"),
        FileProgress("flux1-schnell.safetensors", 23_780_000_000, 9_512_000_000, "packing"),
        FileProgress("flux1-krea-dev.safetensors", 23_800_000_000, 0, "waiting", "for its turn"),
        FileProgress("moved.safetensors", 23_800_000_000, 11_900_000_000, "comparing"),
    ),
)
LOG = (
    *(f"05:06:{i:02d} flux1-dev transformer: 23.8 GB in 0.5{i % 10} s, page cache" for i in range(18)),
    "05:07:01 yolov8x-worldv2.pt: not on this machine [warning]",
    "05:07:02 allocator: CUDA was initialised before [error]",
)
REPORT = "flux-speedup 0.1.0, Forge\nlarge tier, 79.1 GiB\n4 applied, 1 skipped, 1 failed\n7 moves, 77.3 GB"


GB = 10**9


class FakeView:
    """Answers from lists that a test may change; `calls` holds what the buttons asked for.

    `reads` counts how often the figures were asked for, `asked` how often the measurement was; `slow`: seconds
    that the figures take; `refused` is the reason of every refusal, "" for none.
    """

    def __init__(self, *, simulated: bool = False) -> None:
        now = time.time()
        self.card, self.tier = "NVIDIA H100 80GB HBM3, 79.1 GiB", "large"
        self.rows = [ConfigRow("tier", "auto", "config.json"), ConfigRow("streams", True, "settings")]
        self.outcomes = OUTCOMES
        self.pruned = LeftOut(
            "2 scripts are not loaded", "start 18.7 s -> 11.6 s", ("sd_forge_sag", "SwinIR")
        )
        self.kept: list[Event] = flux_day(now)
        self.simulated = simulated
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self.error: Exception | None = None
        self.made = flux_requests(now)
        self.saved = Savings(
            412.3, 61.4, True, "against 6.4 GB/s in and 4.1 GB/s out, typical of such a card"
        )
        self.first: FirstImage | None = FirstImage(9.8, 33_900_000_000, 21_300_000_000, 12_600_000_000, 8.4)
        self.used = MEMORY
        self.built: list[Model] = list(MODELS)
        self.there: list[Checkpoint] = []
        self.found: dict[str, int] = {}
        self.begun = [
            Start(now - 600, 9.8, "pruning, local weights"),
            Start(now - 9000, 14.4, "local weights"),
            Start(now - 90_000, 24.6, ""),
            Start(now - 95_000, 26.1, ""),
        ]
        self.weights: list[LocalWeight] = list(WEIGHTS)
        self.lines: list[str] = list(LOG)
        self.measured: Machine | None = replace(MACHINE, at=now - 4000)
        self.measurement = Measuring("idle")
        self.made_packed = PACKED
        self.refresh = 0.0
        self.reads = 0
        self.asked = 0
        self.slow = 0.0
        self.refused = ""

    def status(self) -> Status:
        return Status(
            version="0.1.0",
            host="Forge",
            enabled=any(o.state is State.APPLIED for o in self.outcomes) or not self.outcomes,
            card=self.card,
            tier=self.tier,
            tier_why="79.1 GiB is over 50 GiB: everything stays on the card, 25 % is kept for inference",
            simulated=self.simulated,
            outcomes=self.outcomes,
        )

    def events(self, asked: Query = NEWEST) -> list[Event]:
        return asked.of(reversed(self.kept))

    def totals(self) -> Totals:
        return replace(Totals.of(self.kept), found=self.found)

    def requests(self, limit: int = 20) -> list[Request]:
        return self.made[:limit]

    def newest_here(self) -> Request | None:
        return next(iter(self.requests(1)), None)

    def savings(self) -> Savings:
        time.sleep(self.slow)
        self.reads += 1
        return self.saved

    def first_image(self) -> FirstImage | None:
        return self.first

    def memory(self) -> MemoryUse:
        return self.used

    def models(self) -> list[Model]:
        return list(self.built)

    def checkpoints(self) -> list[Checkpoint]:
        return self.there

    def drop(self, key: str | None) -> str:
        self._called("drop", () if key is None else (key,))
        self.built = [model for model in self.built if key is not None and model.key != key]
        return "33.8 GB of VRAM are free again." if key is None else f"Forgot {key}: 0.9 GB of RAM."

    def starts(self) -> list[Start]:
        return list(self.begun)

    def local_weights(self) -> list[LocalWeight]:
        return list(self.weights)

    def log_lines(self, limit: int = 20) -> list[str]:
        return self.lines[-limit:]

    def packed(self) -> PackedNow:
        return self.made_packed

    def pack(self, on: bool) -> PackedNow:
        self._called("pack", (on,))
        self.made_packed = replace(self.made_packed, stopped=not on)
        return self.made_packed

    def machine(self) -> Machine | None:
        return self.measured

    def measure(self) -> Measuring:
        self._called("measure")
        self.measurement = Measuring("running", 0.25, "reading a weight file")
        return self.measurement

    def measuring(self) -> Measuring:
        self.asked += 1
        return self.measurement

    def cancel_measuring(self) -> Measuring:
        self._called("cancel_measuring")
        self.measurement = Measuring("cancelled")
        return self.measurement

    def forget_statistics(self) -> None:
        self._called("forget_statistics")
        self.kept, self.made, self.begun = [], [], []

    def refresh_seconds(self) -> float:
        return self.refresh

    def bug_report(self) -> str:
        self._called("bug_report")
        return REPORT

    def config(self) -> list[ConfigRow]:
        return self.rows

    def keep_only(self, items: Sequence[str]) -> Status:
        return self._put_back("keep_only", tuple(items), lambda o: o.item not in items)

    def put_everything_back(self) -> Status:
        return self._put_back("put_everything_back", (), lambda o: True)

    def apply_again(self) -> None:
        self._called("apply_again")
        self.outcomes = tuple(
            replace(o, state=State.APPLIED) if o.state is State.UNDONE else o for o in self.outcomes
        )

    def set_options(self, values: Mapping[str, str]) -> None:
        self._called("set_options", tuple(values))

    # It lets everybody do everything, as `Control` lets some.

    def may(self) -> None:
        return None

    def by(self, headers: Mapping[str, str] | None) -> FakeView:
        return self

    def may_read(self, headers: Mapping[str, str]) -> None:
        return None

    def left_out(self) -> LeftOut:
        return self.pruned

    def disable_left_out(self) -> str:
        self._called("disable_left_out")
        self.pruned = replace(self.pruned, disabled=self.pruned.can_disable, can_disable=())
        return f"Disabled: {', '.join(self.pruned.disabled)}"

    def undo_disabled(self) -> str:
        self._called("undo_disabled")
        self.pruned = replace(self.pruned, can_disable=self.pruned.disabled, disabled=())
        return f"Enabled again: {', '.join(self.pruned.can_disable)}"

    def remove_traces(self, *, folder: bool) -> str:
        self._called("remove_traces", (folder,))
        return "Removed from the WebUI's settings: flux_speedup_tier"

    def _put_back(self, call: str, items: tuple[str, ...], which: Callable[[Outcome], bool]) -> Status:
        self._called(call, items)
        self.outcomes = tuple(
            replace(o, state=State.UNDONE) if o.state is State.APPLIED and which(o) else o
            for o in self.outcomes
        )
        return self.status()

    def _called(self, name: str, arguments: tuple[object, ...] = ()) -> None:
        self.calls.append((name, arguments))
        if self.error is not None:
            raise self.error
        if self.refused:
            raise Refused(self.refused)


def full_of(name: str) -> FakeView:
    """A view in which every text that comes from elsewhere is `name`."""
    view = FakeView()
    spent = {"load": 1.0, name: 2.0}
    view.outcomes = (Outcome(name, name, State.FAILED, name),)
    view.kept = [
        Event(kind, name, GB, 1.0, name, name, 1.0, name) for kind in ("move", "checkpoint", "startup")
    ]
    view.saved = Savings(1.0, 1.0, True, name)
    view.made = [Request(i, name, name, 1.0, 3.0, spent, (Pass(name, 3.0, spent),)) for i in (2, 1)]
    view.used = MemoryUse(((name, GB), (name, GB)), 3 * GB, 4 * GB)
    view.built = [Model(name, name, where, 1, 1, 1) for where in ("in use", "kept", name)]
    view.begun = [Start(1.0, 2.0, name), Start(1.0, 3.0, "")]
    view.weights = [LocalWeight(name, name, WeightState.FOUND, name, 5, name)]
    view.lines = [name, f"{name} [warning]"]
    view.made_packed = PackedNow(name, True, True, 1, 2, (FileProgress(name, 2, 1, "not packed", name),))
    view.measured = Machine(1.0, name, 1.0, 2.0, 3.0, 4.0, 5.0)
    return view
