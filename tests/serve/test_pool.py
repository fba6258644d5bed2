"""Many WebUIs behind one address (deploy/ray): clients notice nothing, and checkpoints are asked where they are."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.pool import running as bench
from launcher import embedded
from launcher.environment import ROOT

pytestmark = [
    pytest.mark.serve,
    pytest.mark.skipif(sys.platform != "linux", reason="deploy/ray ends its WebUIs by Linux's own means"),
]
PYTHON = ROOT / ".venv" / f"gradio-{embedded.GRADIO}" / "bin" / "python"
A, B = "tiny-flux-a.safetensors", "tiny-flux-b.safetensors"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pool") / "data"


@pytest.fixture(scope="module")
def url(data: Path) -> Iterator[str]:
    embedded.write_weights(PYTHON)
    with bench.running(PYTHON, embedded.MODELS, data, replicas=2, by_model=True) as found:
        yield found


def test_each_checkpoint_stays_where_it_was_asked_for_first(url: str, data: Path) -> None:
    came = [bench.picture(url, (name, 1)) for name in (A, B) * 4]
    assert len({*came[::2]}) == len({*came[1::2]}) == 1
    assert came[0] != came[1]
    loads = bench.ask(url, f"{bench.V1}/stats?kind=checkpoint")["events"]
    assert len(loads) <= 4, "of eight requests in turns, each of which would load in one WebUI"
    used = [
        bench.ask(f"http://127.0.0.1:{port}", f"{bench.V1}/models") for port in bench.processes(data).values()
    ]
    assert {models[0]["name"] for models in used} == {A, B}


def test_options_are_those_of_all_and_what_is_wrong_is_said(url: str) -> None:
    expected = bench.picture(url, (B, 2))
    assert bench.ask(url, "/sdapi/v1/options", {"sd_model_checkpoint": B}) is None
    assert bench.ask(url, "/sdapi/v1/options")["sd_model_checkpoint"] == B
    for _ in range(2):
        body = {"prompt": "a lighthouse at dusk", "seed": 2}
        assert bench.picture_of(bench.ask(url, "/sdapi/v1/txt2img", body)) == expected
    for path, wrong, status in (
        ("/sdapi/v1/options", {"no_such_option": 1}, 422),
        ("/sdapi/v1/options", [1], 422),
        ("/sdapi/v1/txt2img", [1], 422),
        (f"{bench.V1}/drop", {"key": None}, 405),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            bench.ask(url, path, wrong)
        refused.value.close()
        assert refused.value.code == status


@pytest.mark.parametrize("whole", [False, True])
def test_a_dead_webui_is_replaced_and_its_request_answered_by_another(
    url: str, data: Path, whole: bool
) -> None:
    expected = bench.picture(url, (A, 3), steps=20)
    came: list[str] = []
    waiting = threading.Thread(target=lambda: came.append(bench.picture(url, (A, 3), steps=20)))
    waiting.start()
    victim = within(
        60, lambda: next((pid for pid, port in bench.processes(data).items() if busy(port)), None)
    )
    bench.kill_one(victim, whole)
    waiting.join(600)
    assert came == [expected]
    within(600, lambda: len(bench.serving(data)) == 2)
    assert victim not in bench.processes(data), "nobody is left who holds the card"


def busy(port: int) -> bool:
    try:
        found = bench.ask(f"http://127.0.0.1:{port}", f"{bench.V1}/requests?limit=1", timeout=10)
    except OSError:
        return False
    return any(each["running"] for each in found["requests"])


def within(seconds: float, found: Any) -> Any:
    until = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)
    return answer


def test_webuis_are_offered_by_how_far_the_checkpoint_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(bench.APPLICATION))
    import pool

    def replica(name: str, stats: dict[str, str], *asked_for: str) -> Any:
        return SimpleNamespace(name=name, routing_stats=stats, multiplexed_model_ids={*asked_for})

    there = [
        replica("nothing known", {}),
        replica("another on its card", {"b": "card"}, "b"),
        replica("page cache", {"a": "page cache"}),
        replica("page cache, has another", {"a": "page cache"}, "b"),
        replica("kept", {"a": "kept"}, "b"),
        replica("leaving the card", {"a": "card"}, "b"),
        replica("coming", {}, "a"),
        replica("card since its start", {"a": "card"}),
    ]
    asked = SimpleNamespace(
        routing_context=SimpleNamespace(should_backoff=False),
        metadata=SimpleNamespace(multiplexed_model_id="a"),
    )
    ranks = asyncio.run(pool.Nearest.choose_replicas(SimpleNamespace(), there, asked))  # type: ignore[arg-type]
    assert [sorted(each.name for each in rank) for rank in ranks] == [
        ["card since its start"],
        ["coming"],
        ["kept", "leaving the card"],
        ["page cache"],
        ["page cache, has another"],
        ["nothing known"],
        ["another on its card"],
    ]
    assert asked.routing_context.should_backoff
