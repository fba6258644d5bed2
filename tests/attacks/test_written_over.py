"""A weight file written over in place while it is in use: the old bytes, or an error; never others, no signal."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flux_speedup.weights.errors import TransferError, WeightsError
from flux_speedup.weights.files import lease
from flux_speedup.weights.files.identity import FileIdentity
from flux_speedup.weights.files.mapping import Registry, Standing
from flux_speedup.weights.files.span import find, lost_among
from flux_speedup.weights.streaming.staged import Staged
from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.supply import Load
from flux_speedup.weights.streaming.timeline import PlainTimeline
from flux_speedup.weights.streaming.unit import Unit
from flux_speedup.weights.transfer.reader import MemorySource, Source
from flux_speedup.weights.transfer.staging import Arena
from tests.unit.weights.weight_files import (
    CARD,
    identity_of,
    module_of,
    raw_bytes,
    residency_of,
    write_weights,
)
from tests.waiting import PATIENCE_S

TIMELINE = PlainTimeline(torch.device("cpu"))
linux = pytest.mark.skipif(sys.platform != "linux", reason="there a mapped file cannot be written over so")
OLD = torch.arange(300_000, dtype=torch.float32)


def same_size(path: Path) -> None:
    content = path.read_bytes()
    with path.open("wb") as file:
        file.write(content[:200] + content[200:][::-1])


def half(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * (path.stat().st_size // 2))


def truncated(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"a download that starts over")


WRITES: list[Callable[[Path], None]] = [same_size, half, truncated]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = write_weights(tmp_path / "a.safetensors", {"a": OLD, "b": OLD[:2000].half()})
    with path.open("rb") as file:
        thread = lease.Watch(lambda: lease.IDLE_S).thread()
        if thread is None or not lease.place(file.fileno(), thread):
            pytest.skip("no leases on this file system")
    return path


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@linux
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("on_the_card", [True, False])
def test_a_writer_waits_until_the_old_bytes_are_in_ram(
    path: Path, write: Callable[[Path], None], on_the_card: bool, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    module = module_of(registry.open(path).views())
    residency = residency_of(module, registry)
    residency.load(CARD)
    if not on_the_card:
        residency.unload()
    write(path)
    assert registry.lost() == []
    residency.unload()
    assert torch.equal(module.a, OLD)
    assert find(module.a, registry) is None  # its file has other bytes by now
    residency.load(CARD)
    assert torch.equal(module.a, OLD)
    assert torch.equal(module.b, OLD[:2000].half())
    assert "old bytes are in RAM" in caplog.text
    assert "is being written over" in caplog.text


@linux
def test_what_was_written_at_home_comes_along(path: Path) -> None:
    registry = Registry()
    views = registry.open(path).views()
    views["a"][70_000:70_010] = -1
    truncated(path)
    expected = OLD.clone()
    expected[70_000:70_010] = -1
    assert torch.equal(views["a"], expected)


@linux
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("leases", [True, False], ids=["no RAM", "no lease"])
def test_where_the_old_bytes_are_gone_they_are_not_computed_with(
    path: Path, write: Callable[[Path], None], leases: bool, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(leases=leases, available=lambda: 0)
    module = module_of(registry.open(path).views())
    residency = residency_of(module, registry)
    residency.load(CARD)
    write(path)
    assert [mapping.path for mapping in registry.lost()] == [path]
    assert lost_among(module.parameters(), registry) is None  # the card has them
    assert torch.equal(module.a, OLD)
    residency.unload()
    assert lost_among(module.parameters(), registry) == path
    with pytest.raises(WeightsError, match="written over"):
        residency.load(CARD)
    assert not module.a.any()  # zeros, and no signal
    assert "built anew" in caplog.text


@linux
def test_a_load_that_finds_it_out_leaves_no_page_that_is_gone(path: Path) -> None:
    registry = Registry(leases=False)
    module = module_of(registry.open(path).views())
    residency = residency_of(module, registry)
    truncated(path)
    with pytest.raises(TransferError):
        residency.load(CARD)
    assert registry.live()[0].standing is Standing.LOST
    assert float(module.a.sum()) == 0.0


@linux
def test_without_leases_it_is_found_out_in_the_background(path: Path) -> None:
    registry = Registry(leases=False)
    mapping = registry.open(path)
    views = mapping.views()
    truncated(path)
    wait_until(lambda: mapping.standing is Standing.LOST)
    assert not views["a"].any()


@linux
def test_somebody_who_computes_at_home_meanwhile_sees_old_bytes_only(path: Path) -> None:
    registry = Registry()
    view = registry.open(path).views()["a"]
    expected, wrong, stop = float(OLD.double().sum()), [], threading.Event()

    def compute() -> None:
        while not stop.is_set():
            if float(view.double().sum()) != expected:
                wrong.append(1)

    thread = threading.Thread(target=compute)
    thread.start()
    for _ in range(3):
        truncated(path)
    stop.set()
    thread.join()
    assert wrong == []


@linux
def test_another_process_writes_over_it_and_this_one_lives(path: Path) -> None:
    code = f"""
        import subprocess, sys
        from pathlib import Path
        from flux_speedup.weights.files.mapping import Registry
        view = Registry().open(Path({str(path)!r})).views()["a"]
        subprocess.run(["cp", "/etc/hostname", {str(path)!r}], check=True)
        print(int(view[1234]), int(view[-1]))
        """
    import flux_speedup

    root = str(Path(flux_speedup.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stdout.split()) == (0, ["1234", "299999"]), done.stderr


@linux
def test_what_can_be_done_without_is_let_go_and_takes_no_ram(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    kept = [registry.open(path).views()]
    told = []

    def drop(identity: FileIdentity) -> None:
        told.append(identity)
        kept.clear()

    registry.writers.wait = drop
    expected = identity_of(path)
    truncated(path)
    assert told == [expected] == registry.writers.over
    assert caplog.text == ""
    wait_until(lambda: registry.live() == [])


@linux
def test_a_torn_copy_does_not_count(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lets the writer go after 45 s, whatever we do."""
    registry = Registry()
    mapping = registry.open(path)
    views = mapping.views()
    monkeypatch.setattr(FileIdentity, "is_still", lambda *_: False)
    truncated(path)
    assert mapping.standing is Standing.LOST
    assert not views["a"].any()


@linux
def test_no_descriptor_and_no_mapping_is_left(path: Path) -> None:
    import gc

    import psutil

    registry = Registry()
    registry.open(path)
    gc.collect()
    before = psutil.Process().num_fds()
    views = registry.open(path).views()
    truncated(path)
    assert raw_bytes(views["a"])[:4] == bytes(4)
    del views
    wait_until(lambda: gc.collect() >= 0 and registry.live() == [])  # the thread that looks may look just now
    wait_until(lambda: psutil.Process().num_fds() == before)


def read_ahead(registry: Registry, in_ram: Callable[[torch.Tensor], Source] = MemorySource) -> Staged:
    return Staged(
        TIMELINE, registry, "page cache", 2, arena=Arena(limit=1 << 18, chunk=1 << 16), in_ram=in_ram
    )


@linux
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("lora", [False, True])
def test_a_model_that_streams_goes_on_with_the_old_bytes(
    path: Path, write: Callable[[Path], None], lora: bool, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    layer = torch.nn.Linear(300, 1000, bias=False).requires_grad_(False)
    layer.weight = torch.nn.Parameter(registry.open(path).views()["a"].view(1000, 300), requires_grad=False)
    unit = Unit(0, "layer")
    stream = Stream({layer: unit}, TIMELINE, read_ahead(registry), 1 << 22)
    stream.set_streamed({layer: unit})
    unit.merges = {"weight": lambda weight: weight + 1} if lora else {}
    expected = (OLD.view(1000, 300) + lora).T
    eye = torch.eye(300)
    for _ in range(2):
        assert torch.equal(layer(eye), expected)
        if registry.live()[0].standing is Standing.FILE:
            write(path)
            stream.rest()  # it is to be brought once more
    assert "could not be streamed" not in caplog.text
    stream.close()


class Held(MemorySource):
    """Takes its time to be read."""

    may = threading.Event()

    def read_into(self, offset: int, target: memoryview) -> None:
        assert self.may.wait(PATIENCE_S)
        super().read_into(offset, target)


@linux
def test_who_writes_waits_for_what_was_asked_for_before(path: Path) -> None:
    """Copies wait for their turn in line; what they read are the old bytes still."""
    registry = Registry()
    views = registry.open(path).views()
    supply = read_ahead(registry, Held)
    first, then = torch.zeros(8, dtype=torch.uint8), torch.zeros(OLD.nbytes, dtype=torch.uint8)
    supply.bring(Load([(first, torch.ones(8, dtype=torch.uint8))]), ())
    arrival = supply.bring(Load([(then, views["a"].view(torch.uint8))]), ())
    written = threading.Event()

    def overwrite() -> None:
        same_size(path)
        written.set()

    writer = threading.Thread(target=overwrite)
    writer.start()
    wait_until(lambda: registry.live()[0].standing is Standing.RAM)
    assert not written.wait(0.5)
    Held.may.set()
    arrival()
    assert torch.equal(then.view(torch.float32), OLD)
    writer.join(PATIENCE_S)
    assert written.is_set()
    supply.close()
