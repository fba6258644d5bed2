"""Which function of a WebUI is which stage: with Forge's shape, with less of it, and handed through unchanged."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.common.stages import Stages
from flux_speedup.patching.table import PatchTable, State
from flux_speedup.stats.events import Event
from flux_speedup.stats.requests import Request
from flux_speedup.stats.tracking import Tracking

NAMES = ("processing", "sd_models", "sd_samplers_common", "scripts", "postprocessing")


class Clock:
    """Goes on by one second whenever the host works."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Host:
    """Modules with Forge's names, whose functions take a second each."""

    def __init__(self, clock: Clock, tracking: Tracking) -> None:
        self.modules = {name: ModuleType(f"modules.{name}") for name in NAMES}
        self.detect = 0
        self.fail = ""
        work, host = self.work, self

        class StableDiffusionProcessing:
            is_api = True

            def __init__(self, **given: Any) -> None:
                self.extra_generation_params: dict[str, str] = {}
                self.__dict__.update(given)

            def get_conds_with_caching(self) -> str:
                return work("conds")

        class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing):
            def sample(self) -> list[str]:
                samplers.Sampler().launch_sampling()
                return self.sample_hr_pass("latent", scale=2) if getattr(self, "hires", False) else []

            def sample_hr_pass(self, latent: str, *, scale: int) -> list[str]:
                assert (latent, scale) == ("latent", 2)
                samplers.Sampler().launch_sampling()
                return [processing.decode_latent_batch("model")]

        class StableDiffusionProcessingImg2Img(StableDiffusionProcessing):
            is_api = False

            def sample(self) -> list[str]:
                samplers.Sampler().launch_sampling()
                return []

        class Sampler:
            def launch_sampling(self) -> str:
                done = work("sampling")
                tracking.charge(Event("move", "transformer", 24, 0.25, "RAM", "GPU"))
                return done

        class AfterDetailerScript:
            def postprocess_image(self, p: Any, image: str, *args: Any) -> str:
                work("detector")
                for _ in range(host.detect):
                    # As it binds the name: before anybody could wrap it.
                    bound(StableDiffusionProcessingImg2Img())
                return image

        class ScriptRunner:
            def run(self, p: Any, *args: Any) -> Any:
                if not args[0]:
                    return None
                for _ in range(args[0]):
                    made = processing.process_images(p)
                return made

        def manage_model_and_prompt_cache(p: Any) -> None:
            processing.forge_model_reload()
            if host.fail == "between":
                host.fail = "after"

        def forge_model_reload() -> tuple[str, bool]:
            work("reload")
            tracking.charge(Event("checkpoint", "flux", 24, 0.5, "file", "RAM"))
            return "model", True

        def process_images(p: Any) -> Any:
            work("settings")
            processing.manage_model_and_prompt_cache(p)
            if host.fail == "after":
                raise RuntimeError("no such sampler")
            return processing.process_images_inner(p)

        def process_images_inner(p: Any) -> Any:
            p.get_conds_with_caching()
            if host.fail == "inner":
                raise RuntimeError("out of memory")
            if not p.sample():
                processing.decode_latent_batch("model")
            if isinstance(p, StableDiffusionProcessingTxt2Img):
                assert AfterDetailerScript().postprocess_image(p, "image") == "image"
            return SimpleNamespace(images=["one", "two"])

        def run_extras(*args: Any, **kwargs: Any) -> Any:
            return self.modules["postprocessing"].run_postprocessing(*args, **kwargs)

        processing: Any = self.modules["processing"]
        samplers: Any = self.modules["sd_samplers_common"]
        samplers.Sampler = Sampler
        for each in (
            StableDiffusionProcessing,
            StableDiffusionProcessingTxt2Img,
            StableDiffusionProcessingImg2Img,
            manage_model_and_prompt_cache,
            forge_model_reload,
            process_images,
            process_images_inner,
        ):
            setattr(processing, each.__name__, each)
        processing.decode_latent_batch = lambda model: work("decode")
        processing.images_tensor_to_samples = lambda image: work("encode")
        self.modules["sd_models"].forge_model_reload = forge_model_reload  # type: ignore[attr-defined]
        scripts: Any = self.modules["scripts"]
        scripts.ScriptRunner = ScriptRunner
        scripts.scripts_data = [SimpleNamespace(script_class=AfterDetailerScript), SimpleNamespace()]
        post: Any = self.modules["postprocessing"]
        post.run_postprocessing = lambda *args, **kwargs: (args, kwargs)
        post.run_extras = run_extras
        bound = process_images
        self.bound, self.processing, self.detector = bound, processing, AfterDetailerScript
        self._clock = clock

    def work(self, result: str) -> str:
        self._clock.now += 1
        return result

    def txt2img(self, **given: Any) -> Any:
        return self.processing.StableDiffusionProcessingTxt2Img(**given)


class Case:
    """A host with the item in force, and the requests that ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, in_infotext: bool = False) -> None:
        clock = Clock()
        self.ended: list[Request] = []
        self.tracking = Tracking(lambda request, _: self.ended.append(request), clock=clock)
        self.host = Host(clock, self.tracking)
        for name, module in self.host.modules.items():
            monkeypatch.setitem(sys.modules, f"modules.{name}", module)
        self.stages = Stages(self.tracking, in_infotext)
        self.table = PatchTable(logging.getLogger("flux_speedup.test"))

    def apply(self) -> None:
        self.table.add("requests", "Requests", "why", self.stages.changes())
        self.table.extend("requests", self.stages.late_changes())
        assert self.table.outcomes()[0].state is State.APPLIED


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    made = Case(monkeypatch)
    made.apply()
    yield made
    made.table.put_back()


def test_every_second_is_where_it_belongs(case: Case) -> None:
    made = case.host.processing.process_images(case.host.txt2img())
    assert made.images == ["one", "two"]
    (request,) = case.ended
    assert (request.kind, request.via, request.images, request.bytes) == ("txt2img", "API", 2, 24)
    assert request.parts == {
        "load": 1,
        "move": 0.25,
        "text encoding": 1,
        "sampling": 0.75,
        "vae": 1,
        "adetailer": 1,
        "other": 1,
    }
    assert request.seconds == 6


def test_hires_and_detectors_are_passes_of_their_own(case: Case) -> None:
    case.host.detect = 2
    case.host.processing.process_images(case.host.txt2img(hires=True))
    (request,) = case.ended
    assert [each.name for each in request.passes] == ["txt2img", "hires", "ADetailer 1", "ADetailer 2"]
    hires, detector = request.passes[1], request.passes[3]
    assert hires.parts == {"move": 0.25, "sampling": 0.75, "vae": 1}
    assert detector.parts == {"load": 1, "move": 0.25, "text encoding": 1, "sampling": 0.75, "vae": 1}
    # The detector itself, what its passes compute, and two seconds of settings before they are wrapped.
    assert request.parts["adetailer"] == 1 + 2 * 2.75 + 2
    assert request.parts["load"] == 3
    assert sum(request.parts.values()) == request.seconds == 17


def test_whoever_bound_the_name_before_is_attributed_too(case: Case) -> None:
    case.host.bound(case.host.txt2img())
    (request,) = case.ended
    assert (request.images, request.parts["load"], request.seconds) == (2, 1, 5)
    assert [each.name for each in request.passes] == ["txt2img"]
    assert case.tracking.current() is None


@pytest.mark.parametrize(("fail", "message"), [("inner", "out of memory"), ("after", "no such sampler")])
@pytest.mark.parametrize("bound", [False, True])
def test_what_raises_has_failed_and_raises(case: Case, fail: str, message: str, bound: bool) -> None:
    case.host.fail = fail
    process = case.host.bound if bound else case.host.processing.process_images
    with pytest.raises(RuntimeError, match=message):
        process(case.host.txt2img())
    case.host.fail = ""
    process(case.host.txt2img())
    assert [(each.failed, each.images) for each in case.ended] == [(True, 0), (False, 2)]
    assert case.tracking.running() == []


def test_a_script_that_makes_many_images_is_one_request(case: Case) -> None:
    runner: Any = sys.modules["modules.scripts"].ScriptRunner()  # type: ignore[attr-defined]
    assert runner.run(case.host.txt2img(), 0) is None
    assert case.ended == []
    assert runner.run(case.host.txt2img(), 3, "more").images == ["one", "two"]
    (request,) = case.ended
    assert [each.name for each in request.passes] == ["txt2img"] * 3
    assert request.images == 2


def test_extras_from_page_and_api(case: Case) -> None:
    post: Any = sys.modules["modules.postprocessing"]
    assert post.run_postprocessing(1, two=2) == ((1,), {"two": 2})
    assert post.run_extras(3) == ((3,), {})
    assert [(each.kind, each.via) for each in case.ended] == [("extras", "page"), ("extras", "API")]


def test_the_infotext_stays_as_it_is_unless_asked_for(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    p = case.host.txt2img()
    case.host.processing.process_images(p)
    assert p.extra_generation_params == {}
    case.table.put_back()
    telling = Case(monkeypatch, in_infotext=True)
    telling.apply()
    p = telling.host.txt2img()
    telling.host.processing.process_images(p)
    assert p.extra_generation_params == {"Load": "1.25 s"}
    telling.table.put_back()


def test_everything_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    before = {name: dict(vars(module)) for name, module in case.host.modules.items()}
    classes = [case.host.processing.StableDiffusionProcessingTxt2Img, case.host.detector]
    inside = [dict(vars(each)) for each in classes]
    case.apply()
    assert vars(case.host.detector)["postprocess_image"] is not inside[1]["postprocess_image"]
    case.table.put_back()
    assert {name: dict(vars(module)) for name, module in case.host.modules.items()} == before
    assert [dict(vars(each)) for each in classes] == inside


def test_a_host_with_less_of_it_has_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    for name in ("manage_model_and_prompt_cache", "process_images_inner", "decode_latent_batch"):
        delattr(case.host.processing, name)
    for name in ("scripts", "postprocessing", "sd_samplers_common"):
        monkeypatch.delitem(sys.modules, f"modules.{name}")
    case.host.processing.process_images = lambda p: p.get_conds_with_caching()
    case.apply()
    assert case.host.processing.process_images(case.host.txt2img()) == "conds"
    (request,) = case.ended
    assert request.parts == {"text encoding": 1}
    case.table.put_back()


def test_a_host_without_requests_keeps_its_own_behaviour(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch)
    del case.host.processing.process_images
    case.table.add("requests", "Requests", "why", case.stages.changes())
    assert case.table.outcomes()[0].state is State.SKIPPED
