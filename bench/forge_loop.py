"""Forge's own loading and moving beside ours, without the WebUI: its `backend/` from the folder given, real files.

    python bench/forge_loop.py --forge DIR --flux F --t5 F --clip F --ae F --json loop.json

and small, without a GPU (tiny files are written, a second CPU stands for the card):

    python bench/forge_loop.py --forge DIR --tiny /tmp/tiny

A process a variant: `host` is Forge as it is, `ours` the same with the weights item (and, where a case says so,
the large card's memory items), `direct` ours with files that the GPU reads itself. Every phase is a line as soon
as it is over; outputs are compared by sha256.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import hashlib
import importlib.util
import itertools
import json
import logging
import os
import pstats
import subprocess
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("flux", "t5", "clip", "ae")
GIB = 1 << 30
RANK = 16
VARIANTS = ("ours", "direct", "host")
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A card (bytes; None: as it is), what inference keeps (a share of it, or bytes), and what is done on it."""

    name: str
    card: int | None
    kept: float
    plan: bool = False
    steps: bool = False
    pin: bool = False


CASES = (
    Case("card as it is, 60 % kept", None, 0.60),
    Case("card as it is, 25 % kept", None, 0.25, plan=True),
    Case("steps, card as it is, 25 % kept", None, 0.25, steps=True),
    Case("24 GiB, 1 GiB kept", 24 * GIB, GIB),
    Case("12 GiB, swapping from pinned RAM", 12 * GIB, GIB, pin=True),
)
# What stands for those cards where the models are tiny (transformer 33 MB, text encoders 140 to 216 MB): the
# first evicts, the second keeps everything, the last swaps.
TINY_CASES = (
    Case("card as it is, 60 % kept", 400_000_000, 0.60),
    Case("card as it is, 25 % kept", 500_000_000, 0.25, plan=True),
    Case("steps, card as it is, 25 % kept", 500_000_000, 0.25, steps=True),
    Case("a card that nothing fits on", 36_000_000, 8_000_000),
)
# What a process of ours has on a card beside its tensors.
CONTEXT = GIB // 2


# The parent: a process a variant, and what came of it.


def parent(options: argparse.Namespace) -> int:
    until = time.time() + options.budget
    if options.tiny:
        prepare_tiny(options)
    else:
        prepare(options)
    rows: list[Row] = []
    failed = False
    for number, variant in enumerate(options.variants):
        lines = Path(f"{options.work}/forge-loop-{variant}.jsonl")
        lines.unlink(missing_ok=True)
        left = until - time.time()
        if left < 20:
            say(f"{variant}: not run, the budget is used up")
            continue
        # Ours leave the host, which is last and slow, its part.
        share = left if number == len(options.variants) - 1 else left * options.share
        child_until = time.time() + share
        command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
        command += ["--child", variant, "--until", str(child_until), "--rows", str(lines)]
        for part in (*PARTS, "second"):
            command += [f"--{part}", str(getattr(options, part))]
        process = subprocess.Popen(command)
        try:
            code = process.wait(share + 15)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
            say(f"{variant}: stopped, the budget is used up")
        if code:
            failed = True
            say(f"{variant}: ended with {code}; its log: {log_of(options, variant)}")
            say("\n".join(log_of(options, variant).read_text(errors="replace").splitlines()[-12:]))
        if lines.exists():
            rows += [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
        save(options, rows)
    result = save(options, rows)
    summary(rows, result)
    failed = failed or any("error" in row for row in rows)
    return 1 if failed or result["different"] else 0


def prepare(options: argparse.Namespace) -> None:
    missing = [part for part in PARTS if getattr(options, part) is None]
    if missing:
        raise SystemExit(f"files are missing: {', '.join(f'--{part}' for part in missing)}")
    options.work = options.work or options.flux.parent
    if options.second is None:
        options.second = options.flux.with_name(f"second-{options.flux.name}")
        if not options.second.exists():
            os.link(options.flux, options.second)
        say("B is a hard link to A: times count, but A and B have the same bytes")
    if options.touch:
        start = time.perf_counter()
        touched = torch.empty(int(options.touch * 1e9), dtype=torch.uint8).fill_(1)
        del touched
        say(f"{options.touch:g} GB of RAM touched in {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    files = [getattr(options, part) for part in (*PARTS, "second")]
    total = sum(read_through(file) for file in files)
    say(f"{total / 1e9:.1f} GB read, so that the page cache is warm: {time.perf_counter() - start:.1f} s")


def prepare_tiny(options: argparse.Namespace) -> None:
    tiny = module_at(ROOT / "tests" / "integration" / "tiny_flux.py")
    files = tiny.write_all(options.tiny)
    found = {"flux": "one", "second": "two", "t5": "t5", "clip": "clip", "ae": "vae"}
    for part, name in found.items():
        setattr(options, part, files[name])
    options.work = options.work or options.tiny


def read_through(path: Path, threads: int = 8) -> int:
    size = path.stat().st_size
    step = -(-size // threads)

    def read(start: int) -> None:
        buffer = bytearray(8 << 20)
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            left = min(step, size - start)
            while left > 0 and (got := file.readinto(memoryview(buffer)[: min(left, len(buffer))])):
                left -= got

    workers = [threading.Thread(target=read, args=(start,)) for start in range(0, size, step)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return size


def save(options: argparse.Namespace, rows: list[Row]) -> dict[str, Any]:
    """Rows, and how many outputs are the same bytes in all variants."""
    seen: dict[tuple[str, str], set[str]] = {}
    count: dict[tuple[str, str], int] = {}
    for row in rows:
        if "sha256" in row:
            key = (row["case"], row["phase"])
            seen.setdefault(key, set()).add(row["sha256"])
            count[key] = count.get(key, 0) + 1
    compared = [key for key, times in count.items() if times > 1]
    different = [key for key in compared if len(seen[key]) > 1]
    result = {
        "compared": len(compared),
        "different": len(different),
        "different_outputs": [": ".join(key) for key in different],
        "rows": rows,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def summary(rows: list[Row], result: dict[str, Any]) -> None:
    """Seconds by case and phase, the variants side by side; of a loop the images after the first."""
    table: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        if "seconds" in row and row.get("image") != 1:
            cell = table.setdefault((row["case"], row["name"]), {})
            cell.setdefault(row["variant"], []).append(row["seconds"])
    say("\nmean seconds (loops: images after the first)")
    for (case, name), cells in table.items():
        shown = "  ".join(f"{variant} {sum(s) / len(s):8.3f}" for variant, s in cells.items())
        say(f"{case:34s} {name:34s} {shown}")
    for case in dict.fromkeys(case for case, _ in table):
        moves = {
            variant: sum(
                sum(cells[variant]) / len(cells[variant])
                for (of, name), cells in table.items()
                if of == case and name in LOOP_MOVES and variant in cells
            )
            for variant in dict.fromkeys(row["variant"] for row in rows)
        }
        if "steps" not in case:
            say(f"{case:34s} moving, an image: " + ", ".join(f"{v} {s:.3f} s" for v, s in moves.items()))
    for row in rows:
        if "error" in row:
            say(f"FAILED: {row['variant']}, {row['case']}: {row['error'][:200]}")
    say(f"outputs compared {result['compared']}, different {result['different']}")
    for name in result["different_outputs"]:
        say(f"  DIFFERENT: {name}")


def say(text: str) -> None:
    print(text, flush=True)


def log_of(options: argparse.Namespace, variant: str) -> Path:
    return Path(f"{options.work}/forge-loop-{variant}.log")


def module_at(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The child: one variant.

LOOP_MOVES = ("move text encoders", "move transformer", "move VAE")


class OutOfTime(Exception):
    """The budget is used up."""


class Writer:
    """A line and a row for every phase, at once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.variant = options.child
        self.case = ""
        self._until = options.until
        self._profiled = options.profile
        self._screen = sys.stdout
        self._rows = options.rows.open("a", encoding="utf-8")

    def row(self, line: str, **row: Any) -> None:
        self._rows.write(json.dumps({"variant": self.variant, "case": self.case, **row}) + "\n")
        self._rows.flush()
        print(f"{self.variant:6s} | {self.case:32s} | {line}", file=self._screen, flush=True)

    def timed(self, name: str, what: Callable[[], Any], **more: Any) -> Any:
        if time.time() > self._until:
            raise OutOfTime
        synchronize()
        start = time.perf_counter()
        result = profiled(name, what) if any(part in name for part in self._profiled) else what()
        synchronize()
        seconds = time.perf_counter() - start
        label = f"image {more['image']}: {name}" if "image" in more else name
        self.row(f"{label:44s} {seconds:9.3f} s", phase=label, name=name, seconds=seconds, **more)
        return result

    def output(self, phase: str, tensor: torch.Tensor) -> None:
        data = tensor.detach().to("cpu").contiguous()
        finite = bool(torch.isfinite(data).all()) if data.is_floating_point() else True
        digest = hashlib.sha256(data.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        note = "" if finite else "  NOT FINITE: proves little"
        self.row(f"{phase:44s} sha256 {digest[:16]}{note}", phase=phase, sha256=digest, finite=finite)


def profiled(name: str, what: Callable[[], Any]) -> Any:
    """Where the time goes, into the log; it takes longer than without."""
    profile = cProfile.Profile()
    result = profile.runcall(what)
    print(f"-- {name}")
    pstats.Stats(profile, stream=sys.stdout).sort_stats("cumulative").print_stats(45)
    return result


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def child(options: argparse.Namespace) -> int:
    writer = Writer(options)
    log = log_of(options, options.child).open("w", buffering=1, encoding="utf-8")
    sys.stdout = log
    logging.basicConfig(stream=log, level=logging.INFO)
    started = time.perf_counter()
    forge = Forge(options)
    writer.case = "start"
    writer.row(f"imports {time.perf_counter() - started:.1f} s, {forge.describe()}", phase="imports")
    ours = Ours(forge, direct=options.child == "direct") if options.child != "host" else None
    try:
        with torch.inference_mode():
            for case in TINY_CASES if options.tiny else CASES:
                if options.cases and not any(wanted in case.name for wanted in options.cases):
                    continue
                writer.case = case.name
                play(case, forge, ours, writer, options)
    except OutOfTime:
        writer.row("not finished: the budget is used up", phase="budget")
    finally:
        sys.stdout = sys.__stdout__
    return 0


def play(case: Case, forge: Forge, ours: Ours | None, writer: Writer, options: argparse.Namespace) -> None:
    forge.clear()
    left = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    if left > 64 << 20:
        writer.row(
            f"{left / 1e9:.2f} GB of an earlier case are on the device still", phase="left", bytes=left
        )
    with forge.card(case), ours.case(case) if ours else nothing():
        files = [options.flux, *(getattr(options, part) for part in ("t5", "clip", "ae"))]
        scene = Scene(forge, writer, options, files)
        try:
            scene.build("forge_loader")
            if case.steps:
                scene.steps(options.second)
            else:
                for image in range(1, options.images + 1):
                    scene.image(image)
            if ours and case.steps:
                kept = sum(ours.kept_ram())
                writer.row(f"{'RAM of kept models':44s} {kept / 1e9:9.2f} GB", phase="kept", bytes=kept)
            if torch.cuda.is_available():
                peak = torch.cuda.max_memory_allocated() - forge.ballast_size
                writer.row(f"{'most device memory':44s} {peak / 1e9:9.2f} GB", phase="peak", bytes=peak)
        except (RuntimeError, OSError) as error:
            traceback.print_exc(file=sys.stdout)
            traceback.clear_frames(error.__traceback__)
            writer.row(
                f"FAILED: {type(error).__name__}: {str(error)[:200]}", phase="failed", error=str(error)
            )
        finally:
            scene.close()


@contextmanager
def nothing() -> Iterator[None]:
    yield


class Forge:
    """Forge's backend in this process, with stand-ins for what of the WebUI it (and ours) asks for."""

    def __init__(self, options: argparse.Namespace) -> None:
        folder = options.forge.resolve()
        self._tiny = bool(options.tiny)
        # `gguf` is Forge's own there, as in the WebUI.
        parts = ("packages_3rdparty", "repositories/huggingface_guess", "")
        sys.path[:0] = [str(folder / part) for part in parts]
        stand_ins(options.work)
        simulated = not torch.cuda.is_available()
        sys.argv = [sys.argv[0], *(["--always-cpu", "--unet-in-bf16"] if simulated else [])]
        from backend import memory_management as manager

        self.manager: Any = manager
        self.cpu = torch.device("cpu")
        self.simulated = simulated
        self.ballast_size = 0
        self._total = 0
        if simulated:
            self._simulate()
        import backend.loader
        from backend.sampling import sampling_function

        if self._tiny:
            module_at(ROOT / "tests" / "integration" / "probe" / "scripts" / "shrink.py").shrink()
        self.sampling: Any = sampling_function
        self.web: Any = sys.modules["modules.sd_models"]
        self.web.forge_loader = backend.loader.forge_loader
        self.device = manager.get_torch_device()

    def describe(self) -> str:
        import transformers

        name = "a second CPU" if self.simulated else torch.cuda.get_device_name()
        return f"{name}, PyTorch {torch.__version__}, transformers {transformers.__version__}"

    def _simulate(self) -> None:
        """Models go to a CPU that is not equal to their home; what is there counts as taken from a card."""
        manager = self.manager
        real = manager.get_free_memory

        def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
            if dev == self.cpu:
                return real(dev, torch_free_too)
            there = [each for each in manager.current_loaded_models if each.device != self.cpu]
            free = self._total - sum(manager.module_size(each.model.model) for each in there)
            return (free, free) if torch_free_too else free

        manager.get_free_memory = get_free_memory
        manager.get_torch_device = lambda: torch.device("cpu", 0)
        manager.text_encoder_device = manager.get_torch_device
        manager.is_device_cpu = lambda device: device == self.cpu
        manager.vram_state = manager.VRAMState.NORMAL_VRAM

    @contextmanager
    def card(self, case: Case) -> Iterator[None]:
        """The case's card and what is kept for inference on it."""
        manager, before = self.manager, self.manager.current_inference_memory
        total = self._total = case.card or 0
        ballast = None
        if not self.simulated:
            free, whole = torch.cuda.mem_get_info()
            total = case.card or whole
            self.ballast_size = max(0, free - (case.card - CONTEXT)) if case.card else 0
            ballast = torch.empty(self.ballast_size, dtype=torch.uint8, device=self.device)
            torch.cuda.reset_peak_memory_stats()
        manager.total_vram = total / (1 << 20)
        manager.current_inference_memory = int(case.kept * total if case.kept < 1 else case.kept)
        pinned, manager.PIN_SHARED_MEMORY = manager.PIN_SHARED_MEMORY, case.pin and not self.simulated
        try:
            yield
        finally:
            del ballast
            manager.PIN_SHARED_MEMORY = pinned
            self.ballast_size = 0
            manager.current_inference_memory = before
            self.clear()

    def clear(self) -> None:
        """As if this process had just started."""
        manager, data = self.manager, self.web.model_data
        data.sd_model, data.forge_hash = None, ""
        # The host would copy what it throws away back to RAM first.
        manager.current_loaded_models.clear()
        gc.collect()
        manager.soft_empty_cache()


def stand_ins(work: Path) -> None:
    """What stands for the WebUI: options, the chosen checkpoint, and its reload in our own words."""
    data = types.SimpleNamespace(sd_model=None, forge_loading_parameters={}, forge_hash="")
    data.set_sd_model = lambda model: setattr(data, "sd_model", model)
    options = types.SimpleNamespace(emphasis="Original", data={})
    found: dict[str, dict[str, Any]] = {
        "shared": {"opts": options, "cmd_opts": types.SimpleNamespace(embeddings_dir=str(work / "none"))},
        "sd_models": {"model_data": data, "forge_loader": None, "forge_model_reload": reload_checkpoint},
        "processing": {"forge_model_reload": reload_checkpoint, "process_images_inner": print},
        "script_callbacks": {"model_loaded_callback": lambda _model: None},
    }
    package = types.ModuleType("modules")
    package.__path__ = []
    sys.modules["modules"] = package
    for name, attributes in found.items():
        module = types.ModuleType(f"modules.{name}")
        vars(module).update(attributes)
        setattr(package, name, module)
        sys.modules[f"modules.{name}"] = module


def reload_checkpoint() -> tuple[Any, bool]:
    """What the WebUI does where another checkpoint is asked for: everything goes, then a build."""
    from backend import memory_management as manager
    from backend.args import dynamic_args

    web, shared = sys.modules["modules.sd_models"], sys.modules["modules.shared"]
    data = web.model_data
    wanted = str(data.forge_loading_parameters)
    if data.forge_hash == wanted:
        return data.sd_model, False
    if data.sd_model is not None:
        data.sd_model = None
        manager.unload_all_models()
        manager.soft_empty_cache()
        gc.collect()
    parameters = data.forge_loading_parameters
    dynamic_args["forge_unet_storage_dtype"] = parameters["unet_storage_dtype"]
    dynamic_args["embedding_dir"] = shared.cmd_opts.embeddings_dir
    dynamic_args["emphasis_name"] = shared.opts.emphasis
    info = parameters["checkpoint_info"]
    model = web.forge_loader(info.filename, additional_state_dicts=parameters["additional_modules"])
    model.sd_checkpoint_info, model.filename = info, info.filename
    model.extra_generation_params, model.comments = {}, []
    data.set_sd_model(model)
    data.forge_hash = wanted
    return model, True


class Ours:
    """This extension's changes to Forge, through its patch table."""

    def __init__(self, forge: Forge, direct: bool) -> None:
        sys.path.insert(0, str(ROOT / "extensions" / "flux-speedup"))
        from flux_speedup.hosts.forge import Forge as Host
        from flux_speedup.memory import Card, TierRules, plan
        from flux_speedup.patches import PatchTable

        self._table = PatchTable(logging.getLogger("flux_speedup"))
        self._host: Any = Host(forge.manager)
        self._forge = forge
        self._plan = lambda total: plan(Card("a card", True, total), TierRules(mode="large"))
        self._add("weights", self._host.weight_changes(0.5 if direct else 0.0))

    @contextmanager
    def case(self, case: Case) -> Iterator[None]:
        """With the large card's memory items, or with checkpoints kept, where the case has them."""
        added = []
        if case.plan:
            total = int(self._forge.manager.total_vram * (1 << 20))
            for item in self._host.memory_changes(self._plan(total)):
                self._add(item.key, item.changes)
                added.append(item.key)
        if case.steps:
            make = getattr(self._host, "checkpoint_changes", None)
            limits = (2, 8 * GIB)
            if make is not None:
                self._add("checkpoints", make(limits, lambda _event: None, lambda: frozenset({"weights"})))
                added.append("checkpoints")
        try:
            yield
        finally:
            self._table.put_back(added)

    def kept_ram(self) -> list[int]:
        """Bytes of RAM that each kept model has and no file stands behind."""
        keeper = self._host._keeper
        return [entry.ram for entry in keeper.kept.entries()] if keeper is not None else []

    def _add(self, key: str, changes: list[Any]) -> None:
        self._table.add(key, key, "", changes)
        outcome = next(each for each in self._table.outcomes() if each.item == key)
        if outcome.state.value != "applied" and "off already" not in outcome.why:
            raise SystemExit(f"{key}: {outcome.state.value} ({outcome.why})")


class Scene:
    """A model of one case, and what is done with it."""

    def __init__(self, forge: Forge, writer: Writer, options: argparse.Namespace, files: list[Path]) -> None:
        self._forge, self._writer, self._options = forge, writer, options
        self._files = files
        self._engine: Any = None

    def build(self, name: str, file: Path | None = None) -> None:
        """As the WebUI: the checkpoint is chosen, then `forge_model_reload` (ours may have wrapped it)."""
        checkpoint = str(file or self._files[0])
        data = self._forge.web.model_data
        data.forge_loading_parameters = {
            "checkpoint_info": Info(checkpoint),
            "additional_modules": [str(path) for path in self._files[1:]],
            "unet_storage_dtype": None,
        }
        processing = sys.modules["modules.processing"]
        self._engine, _ = self._writer.timed(name, lambda: processing.forge_model_reload())
        transformer = self._unet.model.diffusion_model
        if file is None:
            where = {str(p.device) for p in transformer.parameters()}
            size = self._forge.manager.module_size(self._unet.model) / 1e9
            line = f"transformer {size:.2f} GB built on {', '.join(sorted(where))}"
            self._writer.row(line, phase="built", where=sorted(where))

    def close(self) -> None:
        self._engine = None

    @property
    def _unet(self) -> Any:
        return self._engine.forge_objects.unet

    def image(self, number: int) -> None:
        """Encode a prompt, take the steps, decode: each with the move before it."""
        timed, engine, manager = self._writer.timed, self._engine, self._forge.manager
        clip, vae = engine.forge_objects.clip, engine.forge_objects.vae
        timed("move text encoders", lambda: manager.load_model_gpu(clip.patcher), image=number)
        prompt = f"a photograph of {number} red foxes in the snow, evening light"
        cond = timed("encode", lambda: engine.get_learned_conditioning([prompt]), image=number)
        x = self._noise(number)
        timed("move transformer", lambda: self._prepare(x), image=number)
        name = f"{self._options.steps} steps"
        latent = timed(name, lambda: self._sample(x, cond), image=number)
        needed = vae.memory_used_decode(x.shape, vae.vae_dtype)
        load = [vae.patcher]
        timed("move VAE", lambda: manager.load_models_gpu(load, memory_required=needed), image=number)
        picture = timed("decode", lambda: engine.decode_first_stage(latent), image=number)
        for what, tensor in (("conditioning", cond["crossattn"]), ("latent", latent), ("picture", picture)):
            self._writer.output(f"image {number}: {what}", tensor)

    def steps(self, second: Path) -> None:
        """Unload and reload, LoRAs on, changed and off, checkpoints A -> B -> A -> B."""
        timed, manager = self._writer.timed, self._forge.manager
        x, first = self._noise(0), self._files[0]
        clip = self._engine.forge_objects.clip.patcher
        timed("first move of the text encoders", lambda: manager.load_model_gpu(clip))
        timed("first move of the transformer", lambda: self._prepare(x))
        self._check("first")
        self._ram("loaded once")
        timed("unload_all_models", manager.unload_all_models)
        timed("reload of the text encoders", lambda: manager.load_model_gpu(clip))
        timed("reload of the transformer", lambda: self._prepare(x))
        self._check("after unload and reload")
        self._ram("loaded twice")
        for name, file in (("A -> B", second), ("B -> A", first), ("A -> B again", second)):
            clip = None
            self.build(f"switch {name}: model", file)
            timed(f"switch {name}: move transformer", lambda: self._prepare(x))
            self._check(f"switch {name}")
        self._loras(x)

    def _ram(self, phase: str) -> None:
        """Memory of this process that no file stands behind (Linux)."""
        rollup = Path("/proc/self/smaps_rollup")
        lines = rollup.read_text().splitlines() if rollup.exists() else []
        size = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:")), 0)
        self._writer.row(f"{'anonymous memory, ' + phase:44s} {size / 1e9:9.2f} GB", phase=phase, bytes=size)

    def _loras(self, x: torch.Tensor) -> None:
        timed, manager, plain = self._writer.timed, self._forge.manager, self._unet
        patches = self._lora()
        self._writer.row(f"a LoRA of rank {RANK} for {len(patches)} weights", phase="lora")
        timed("LoRA: the arithmetic alone", lambda: self._merge_all(plain, patches))
        for name, strength in (("on", 1.0), ("changed", 0.5), ("on, after unload and reload", None)):
            if strength is None:
                timed("LoRA: unload_all_models", manager.unload_all_models)
            else:
                changed = plain.clone()
                changed.add_patches(filename="made here", patches=patches, strength_patch=strength)
                self._engine.forge_objects.unet = changed
            timed(f"LoRA {name}", lambda: self._prepare(x))
            self._check(f"LoRA {name}")
        self._engine.forge_objects.unet = plain
        timed("LoRA off", lambda: self._prepare(x))
        self._check("LoRA off")

    def _lora(self) -> dict[str, Any]:
        from backend.patcher.lora import load_lora, model_lora_keys_unet

        random = torch.Generator().manual_seed(16)
        model, tensors = self._unet.model, {}
        for name, parameter in model.named_parameters():
            if "_blocks." not in name or parameter.dim() != 2:
                continue
            key = "lora_unet_" + name.removeprefix("diffusion_model.").removesuffix(".weight").replace(
                ".", "_"
            )
            out, into = parameter.shape
            tensors[f"{key}.lora_down.weight"] = torch.randn(RANK, into, generator=random) * 0.05
            tensors[f"{key}.lora_up.weight"] = torch.randn(out, RANK, generator=random) * 0.05
            tensors[f"{key}.alpha"] = torch.tensor(float(RANK))
        found: dict[str, Any] = load_lora(tensors, model_lora_keys_unet(model, {}))[0]
        return found

    @staticmethod
    def _merge_all(patcher: Any, patches: dict[str, Any]) -> None:
        from backend.patcher.lora import merge_lora_to_weight

        for key, value in patches.items():
            weight = patcher.model.get_parameter(key)
            merge_lora_to_weight([[1.0, value, 1.0, None, None]], weight, key, torch.float32)

    def _prepare(self, x: torch.Tensor) -> None:
        self._forge.sampling.sampling_prepare(self._unet, x)

    def _noise(self, seed: int) -> torch.Tensor:
        shape = (1, 16, self._options.height // 8, self._options.width // 8)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return noise.to(self._forge.device)

    def _sample(self, x: torch.Tensor, cond: dict[str, torch.Tensor]) -> torch.Tensor:
        conditions = self._conditions(cond["crossattn"], cond["vector"])
        sigmas = torch.linspace(1, 0, self._options.steps + 1).tolist()
        for now, then in itertools.pairwise(sigmas):
            denoised = self._predict(x, now, conditions)
            x = x + (x - denoised) / now * (then - now)
        self._forge.sampling.sampling_cleanup(self._unet)
        return x

    def _conditions(self, context: torch.Tensor, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        device = self._forge.device
        guidance = torch.full((1,), 3.5, device=device)
        return {"c_crossattn": context.to(device), "y": vector.to(device), "guidance": guidance}

    def _predict(self, x: torch.Tensor, sigma: float, conditions: dict[str, torch.Tensor]) -> torch.Tensor:
        level = torch.full((1,), sigma, device=x.device)
        found: torch.Tensor = self._unet.model.apply_model(x, level, **conditions)
        return found

    def _check(self, phase: str) -> None:
        """One step from fixed input, and every weight as it is on the device now."""
        sys.path.insert(0, str(ROOT / "extensions" / "flux-speedup"))
        from flux_speedup.weights.digest import checksums

        transformer = self._unet.model.diffusion_model
        random = torch.Generator().manual_seed(7)
        context = torch.randn(1, 256, transformer.txt_in.weight.shape[1], generator=random)
        vector = torch.randn(1, transformer.vector_in.in_layer.weight.shape[1], generator=random)
        x = self._noise(7)
        conditions = self._conditions(context, vector)
        found = self._writer.timed(f"one step ({phase})", lambda: self._predict(x, 0.7, conditions))
        self._writer.output(f"{phase}: output", found)
        self._forge.sampling.sampling_cleanup(self._unet)
        weights = [parameter.detach() for parameter in transformer.parameters()]
        if len({weight.device for weight in weights}) == 1:
            self._writer.output(f"{phase}: weights", torch.as_tensor(checksums(weights)))


@dataclass(frozen=True)
class Info:
    """What the WebUI knows of a checkpoint."""

    filename: str


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--forge", type=Path, required=True, metavar="DIR", help="a folder with Forge's backend/")
    for part in PARTS:
        add(f"--{part}", type=Path, default=None, metavar="FILE")
    add("--second", type=Path, default=None, metavar="FILE", help="checkpoint B (default: a link to A)")
    add("--tiny", type=Path, default=None, metavar="DIR", help="write tiny files there and use those")
    add("--work", type=Path, default=None, metavar="DIR", help="for logs (default: beside the files)")
    add("--variants", nargs="+", default=["ours", "host"], choices=VARIANTS)
    add("--cases", nargs="+", default=[], help="only cases whose name contains one of these")
    add("--images", type=int, default=3)
    add("--steps", type=int, default=None, help="default: 8, tiny: 2")
    add("--width", type=int, default=None, help="default: 1344, tiny: 128")
    add("--height", type=int, default=None, help="default: 768, tiny: 128")
    add("--touch", type=float, default=0, metavar="GB", help="RAM touched once before (virtual machines)")
    add(
        "--profile",
        nargs="+",
        default=[],
        metavar="NAME",
        help="log a profile of phases with that in their name",
    )
    add("--budget", type=float, default=3600, metavar="SECONDS")
    add("--share", type=float, default=0.35, help="what a variant but the last may take of the budget left")
    add("--json", type=Path, default=None, metavar="FILE")
    add("--child", default=None, help=argparse.SUPPRESS)
    add("--until", type=float, default=0, help=argparse.SUPPRESS)
    add("--rows", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    small = options.tiny is not None
    options.steps = options.steps or (2 if small else 8)
    options.width = options.width or (128 if small else 1344)
    options.height = options.height or (128 if small else 768)
    if options.child:
        options.work = options.work or options.tiny or options.flux.parent
    return options


def main() -> int:
    options = arguments()
    return child(options) if options.child else parent(options)


if __name__ == "__main__":
    sys.exit(main())
