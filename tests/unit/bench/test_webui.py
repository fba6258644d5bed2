"""What a turn makes of a WebUI's answers, with a WebUI of the test's own."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from bench.record import Record
from bench.webui.cases import CASES
from bench.webui.host import flags_of, found_below
from bench.webui.log import said, startup
from bench.webui.pictures import compared, examined, less_free
from bench.webui.server import LAUNCHER, Gone
from bench.webui.turn import Turn, a_step
from bench.webui.variants import variant


def picture(color: int = 0, text: str = "x", *, flat: bool = False) -> str:
    image = Image.new("RGB", (16, 16), (color, 1, 2))
    if not flat:
        image.putdata([((x * 7 + color) % 256, x % 251, x * 3 % 256) for x in range(256)])
    told = PngImagePlugin.PngInfo()
    told.add_text("parameters", text)
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=told)
    return base64.b64encode(file.getvalue()).decode()


class FakeServer:
    """Answers with a picture that depends on the prompt; `fails` names what goes wrong at the n-th picture."""

    seconds = 3.0

    def __init__(self, fails: dict[int, Exception] | None = None, text: str = "x") -> None:
        self.bodies: list[dict[str, Any]] = []
        self._fails, self._text = fails or {}, text
        self.paused: list[float] = []

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if path.endswith("unload-checkpoint"):
            return {}
        self.bodies.append(body)
        if len(self.bodies) in self._fails:
            raise self._fails[len(self.bodies)]
        return {"images": [picture(len(body["prompt"]) + body["seed"], self._text)]}

    def get(self, path: str) -> Any:
        if path.startswith("/flux-speedup"):
            steps = {"count": 8, "seconds": 0.2521, "waited": None, "bytes": 0, "rate_gb_s": None}
            passes = [{"name": "txt2img", "steps": steps}, {"name": "hires", "steps": None}]
            return {"requests": [{"parts": {"move": 1.5, "vae": 0}, "passes": passes}]}
        peak = {"peak": 4e9, "current": 2e9}
        cuda = {"system": {"free": 5e9}, "reserved": peak, "allocated": peak, "events": {"retries": 3}}
        return {"ram": {"used": 1e9}, "cuda": cuda}

    def log_size(self) -> int:
        return 0

    def log(self, since: int = 0) -> str:
        return (
            "1/8 it\r2/8 it\nMoving model(s) has taken 1.25 seconds\nMemory cleanup has taken 0.50 seconds\n"
        )


def turn(server: FakeServer, record: Record, name: str = "ours") -> Turn:
    about = {"round": 0, "card": "all", "variant": name, "extension": name == "ours"}
    common = {"width": 64, "steps": (2, 8), "checkpoint": "a", "second": "b"}
    common |= {"loras": ("one", "two"), "detector": "finds-one.pt"}
    return Turn(server, record, about, common, sleep=server.paused.append)  # type: ignore[arg-type]


def test_every_case_is_asked_and_every_answer_is_a_row(tmp_path: Path) -> None:
    server, record = FakeServer(), Record("webui", tmp_path / "x.json")
    turn(server, record).ask(list(CASES))
    rows = {row["request"]: row for row in json.loads((tmp_path / "x.json").read_text())["rows"]}
    assert next(iter(rows)) == "start"
    assert rows["start"]["seconds"] == 3.0
    assert rows["hires fix"] | {"moving": 1.75, "vram_free": 5.0, "parts": {"move": 1.5}} == rows["hires fix"]
    assert (rows["a step"]["seconds"], rows["a step"]["by"]) == (0.2521, "the device")
    assert {"unload", "LoRA off", "A again", "img2img"} <= rows.keys()
    assert rows["first"]["retries"] == 3
    assert server.paused == [rows["pause"]["seconds"]]
    assert [body["steps"] for body in server.bodies if body["seed"] == 3] == [2, 8]
    passes = [body["alwayson_scripts"] for body in server.bodies if "alwayson_scripts" in body]
    assert [len(each["ADetailer"]["args"]) for each in passes] == [5, 5, 5]
    assert {"seed's request, A", "seed's request, B", "seed's request, A again"} <= rows.keys()
    assert server.bodies[-1]["prompt"] == server.bodies[0]["prompt"]
    assert rows["first"]["file"] == rows["again"]["file"] != rows["new prompt"]["file"]


def test_a_step_is_what_the_device_says_or_what_is_left_where_moving_differs() -> None:
    few = {"seconds": 1.108, "moving": 0.0, "building": 0.0, "steps": 2}
    more = {"seconds": 2.302, "moving": 0.12, "building": 0.0, "steps": 8}
    assert a_step(few, more) == (0.179, "two requests, less what moved")
    assert a_step(few, {**more, "iterations": [{"seconds": 0.16912}]}) == (0.1691, "the device")
    alone = [{"seconds": 34.8, "moving": 31.0, "building": 0.0, "steps": 2},
             {"seconds": 37.4, "moving": 32.4, "building": 0.0, "steps": 8}]  # fmt: skip
    assert a_step(*alone) == (0.2, "two requests, less what moved")
    assert a_step(None, more) is None


def test_webuis_are_found_by_what_is_in_them(tmp_path: Path) -> None:
    for name in ("forge/launch.py", "neo/webui/launch.py", "other/run.py", ".hidden/launch.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert [each.name for each in found_below(tmp_path)] == ["forge", "neo"]
    with pytest.raises(SystemExit, match="--webui"):
        found_below(tmp_path / "other")


def test_a_refused_request_is_a_row_and_the_turn_goes_on() -> None:
    refused = urllib.error.HTTPError("http://x", 500, "no", {}, io.BytesIO(b"out of memory"))  # type: ignore[arg-type]
    record = Record("webui", None)
    turn(FakeServer({1: refused}), record).ask(["first", "repeat"])
    errors = [row.get("error") for row in record.rows if row["request"] in ("first", "again")]
    assert errors == ["500: out of memory", None]
    (failed,) = (row for row in record.rows if row["request"] == "first")
    assert "seconds" not in failed, "what failed would count as an answer"
    assert failed["vram_free"] == 5.0
    assert failed["lines"]


def test_a_webui_that_is_gone_ends_the_turn_and_what_was_seen_is_kept(tmp_path: Path) -> None:
    record = Record("webui", tmp_path / "x.json")
    with pytest.raises(Gone):
        turn(FakeServer({2: ConnectionResetError("gone")}), record).ask(["first", "repeat", "prompt"])
    assert [row["request"] for row in json.loads((tmp_path / "x.json").read_text())["rows"]] == [
        "start",
        "first",
        "again",
    ]


def test_what_is_taken_after_an_unload_is_held_against_the_webui_alone() -> None:
    def row(card: object, variant: str, free: float | None, request: str = "unload") -> dict[str, Any]:
        told = {} if free is None else {"vram_free": free}
        return {"card": card, "variant": variant, "request": request, **told}

    rows = [
        row("all", "alone", 79.0),
        row("all", "ours", 78.9),
        row("all", "ours", 78.96),
        row("all", "ours", 40.0, "first"),
        row(24, "ours", 20.0),
        row("all", "ours+overlap=off", None),
    ]
    assert less_free(rows) == {"all, ours": 40}


def test_pictures_are_compared_between_variants_of_one_card() -> None:
    record = Record("webui", None)
    for name, text in (("ours", "x"), ("alone", "x")):
        turn(FakeServer(text=text), record, name).ask(["first", "prompt"])
    assert compared(record.rows) == {"compared": 2, "identical": 2, "different": []}
    turn(FakeServer(text="y"), record, "alone-tuned").ask(["first"])
    assert compared(record.rows)["different"] == ["all: first"]


def test_pictures_of_a_smaller_card_are_compared_with_the_whole_card_where_nothing_else_ran_on_it() -> None:
    def row(card: object, variant: str, file: str) -> dict[str, object]:
        return {"card": card, "variant": variant, "request": "first", "file": file, "pixels": file}

    rows = [row(12.0, "ours", "x"), row(8.0, "ours", "y"), row("all", "alone", "x")]
    assert compared(rows) == {"compared": 2, "identical": 1, "different": ["8.0: first"]}
    assert compared([*rows, row(8.0, "alone", "y")])["different"] == []


def test_a_picture_has_a_file_pixels_and_text_of_its_own() -> None:
    one, other = examined(picture(text="x")), examined(picture(text="y"))
    assert one.pixels == other.pixels
    assert one.text != other.text
    assert one.file != other.file
    assert one.pixels != examined(picture(9)).pixels
    assert not one.flat
    assert examined(picture(flat=True)).flat


def test_the_log_is_summed_and_progress_bars_are_left_out() -> None:
    seen = said(
        "Model loaded in 1.5s (a: 1.0s).\n 10%|# | 1/8\r 20%|## | 2/8\r\nMoving model(s) has taken 2.00 seconds\n"
    )
    assert (seen.moving, seen.building) == (2.0, 1.5)
    assert seen.lines == ["Model loaded in 1.5s (a: 1.0s).", "Moving model(s) has taken 2.00 seconds"]


def test_the_last_start_is_read_from_the_log() -> None:
    log = "Startup time: 9.9s (load scripts: 9.0s).\nx\nStartup time: 26.8s (torch: 21.5s, load scripts: 0.2s).\n"
    assert startup(log) == (26.8, 0.2)
    assert startup("Startup time: 3.0s (import torch: 2.0s).") == (3.0, 0.0)


@pytest.mark.parametrize(
    ("file", "declared", "flags", "models"),
    [
        (
            "backend/args.py",
            ("--always-cpu", "--skip-install"),
            ("--skip-install", "--always-cpu"),
            "--models-dir",
        ),
        ("backend/args.py", ("--cpu", "--model-ref"), ("--cpu",), "--model-ref"),
        (
            "modules/cmd_args.py",
            ("--use-cpu", "--models-dir"),
            ("--use-cpu", "all", "--no-half"),
            "--models-dir",
        ),
    ],
)
def test_a_webui_gets_the_flags_that_it_declares(
    tmp_path: Path, file: str, declared: tuple[str, ...], flags: tuple[str, ...], models: str
) -> None:
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text("\n".join(f'add_argument("{flag}")' for flag in declared))
    assert flags_of(tmp_path, gpu=False) == (flags, models, "--unet-in-bf16")
    with_gpu, _, _ = flags_of(tmp_path, gpu=True)
    assert not {"--always-cpu", "--cpu", "--use-cpu"} & {*with_gpu}


def test_variants_carry_their_configuration() -> None:
    assert variant("ours+streams=off").flags == ("--flux-speedup-streams", "off")
    assert variant("alone-tuned").flags == ("--cuda-stream", "--pin-shared-memory")
    for wrong in ("theirs", "alone+streams=off", "ours+streams"):
        with pytest.raises(ValueError, match=r"ours|KEY=VALUE|extension"):
            variant(wrong)


FAKE_TORCH = """
import types
def ask(device=None): return 70 << 30, 80 << 30
said = []
memory = types.SimpleNamespace(mem_get_info=ask)
cuda = types.SimpleNamespace(mem_get_info=ask, memory=memory, set_per_process_memory_fraction=said.append)
"""
FAKE_LAUNCH = """
import sys, torch
assert not torch.said, "limited before anybody asked"
print([n >> 30 for n in torch.cuda.mem_get_info()], [n >> 30 for n in torch.cuda.memory.mem_get_info()])
print(torch.said, sys.argv, __name__)
"""


def test_a_smaller_card_says_so_and_is_limited_at_the_first_question(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    (tmp_path / "launch.py").write_text(FAKE_LAUNCH)
    done = subprocess.run(
        [sys.executable, str(LAUNCHER), "--api"],
        cwd=tmp_path,
        env={**os.environ, "BENCH_CARD_GIB": "12", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["[2, 12] [2, 12]", "[0.15] ['launch.py', '--api'] __main__"]


def test_an_installer_runs_before_the_webui_as_its_child_and_imports_from_it(tmp_path: Path) -> None:
    (tmp_path / "its_module.py").touch()
    (tmp_path / "install.py").write_text("import os, its_module; print(os.getppid(), flush=True)\n")
    (tmp_path / "launch.py").write_text("import os; print(os.getpid())\n")
    environ = {**os.environ, "BENCH_INSTALLER": str(tmp_path / "install.py")}
    done = subprocess.run(
        [sys.executable, str(LAUNCHER)], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )
    one, other = done.stdout.split()
    assert one == other
