"""Random loads, LoRAs and unloads by a memory manager of Comfy's lineage on a card that is too small.

For scripts that a host's own Python runs in the host's folder, by itself or with ours. The same seed makes the same
sequence; `Loads.seen` is what came of it.
"""

from __future__ import annotations

import gc
import hashlib
import random
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from tests import second_device as card
from tests.second_device import CARD

MIB, HOME = 1 << 20, torch.device("cpu")
KEPT = 5 * MIB
"""Of the card, for checks of weights."""


class Believed:
    """A card of `size` bytes that a host's memory manager believes in; so many of them stay free for inference."""

    def __init__(self, manager: Any, inference: int) -> None:
        self.size, self.inference = 0, inference
        self._begin = card.used()

        def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
            free = self.size - self.taken()
            return (free, free) if torch_free_too else free

        manager.vram_state = manager.VRAMState.NORMAL_VRAM
        manager.minimum_inference_memory = lambda: inference + manager.extra_reserved_memory()
        manager.extra_reserved_memory = lambda: 0
        manager.get_torch_device = lambda: CARD
        manager.get_free_memory = get_free_memory

    def taken(self) -> int:
        """Bytes of it that are taken now."""
        return card.taken() - self._begin

    def ends_here(self, more: int = 0) -> None:
        """It has no more than it is believed to have, and so many bytes."""
        card._load().card_limit(self._begin + self.size + more)


def one_pass(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Of a model that is on the card."""
    found: torch.Tensor = model(x.to(CARD))
    return found


class Ours:
    """What the extension puts in force, without the rest of a WebUI. `failed`: what of it has."""

    def __init__(self, attach: Callable[[Any], Any]) -> None:
        """`attach`: what takes weights over, made of a placement."""
        from flux_speedup.hosts.comfy import merging
        from flux_speedup.weights.residency import signature
        from flux_speedup.weights.residency.placement import Placement
        from flux_speedup.weights.transfer.lane import PlainLane

        merging.LANES, signature._ROWS = ("hpu",), (64,)
        self.run = one_pass
        self.failed: list[str] = []
        self.placement = Placement(lanes=PlainLane)
        self.attachment = attach(self.placement)

    def begin(self, *more: Any) -> None:
        """Changes of modules that are in memory; others would be imported with all that they import."""
        from flux_speedup.patching.change import apply_all
        from flux_speedup.patching.guard import reporting

        with reporting(self._report):
            apply_all(
                change
                for change in (*self.attachment.changes(), *more)
                if change.module is None or change.module in sys.modules
            )

    def _report(self, function: str, error: BaseException) -> bool:
        """Where ours fails the host's own runs; here nothing of ours may fail."""
        self.failed.append(f"{function}: {error!r} {traceback.format_tb(error.__traceback__)[-2:]}")
        return False

    def is_view(self, tensor: torch.Tensor) -> bool:
        return self.placement.registry.around(tensor.data_ptr(), tensor.nbytes) is not None

    def streams(self, model: torch.nn.Module) -> bool:
        return False

    def for_checks(self) -> int:
        """Bytes of the card that checks of weights take."""
        from flux_speedup.weights.residency import signature

        return signature.taken(CARD)

    def built(self, models: Mapping[str, Any]) -> Any:
        """What is kept of models that are not to be built again."""
        from flux_speedup.weights.residency.as_built import AsBuilt

        return [AsBuilt(patcher.model) for patcher in models.values()]

    def for_rings(self) -> int:
        """And what streams, and what is on its way before it is asked for."""
        return 0

    def ahead(self, model: torch.nn.Module) -> bool:
        """Whether it was on its way before it was asked for the last time."""
        arrival = self.placement.arrival(model)
        return arrival is not None and arrival.early > 0


class Block(torch.nn.Module):
    """Layers one after the other, of the kind that the host puts in place of PyTorch's."""

    def __init__(self, many: int, wide: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(wide, wide) for _ in range(many)])
        self.norm = torch.nn.LayerNorm(wide)
        self.fails: int | None = None
        self.computation_dtype = torch.float32

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, layer in enumerate(self.layers):
            if number == self.fails:
                raise RuntimeError("on purpose")
            x = torch.tanh(layer(x)) + x
        found: torch.Tensor = self.norm(x)
        return found


class Requests:
    """What a host has around loads, under Forge Neo's names: a request, and the model that it uses."""

    def __init__(self) -> None:
        self._data = SimpleNamespace(sd_model=None, forge_loading_parameters={})
        processing: Any = ModuleType("modules.processing")
        processing.manage_model_and_prompt_cache = processing.process_images_inner = lambda do: do()
        processing.forge_model_reload = lambda: None
        self._processing = processing
        models: Any = ModuleType("modules.sd_models")
        models.model_data = self._data
        models.forge_loader = models.forge_model_reload = models.unload_model_weights = lambda: None
        for module in (processing, models):
            sys.modules[module.__name__] = module

    def switch(self, texts: Any, transformer: Any) -> None:
        """From now on the model in use has these patchers."""
        objects = SimpleNamespace(clip=SimpleNamespace(patcher=texts), unet=transformer)

        def reload() -> None:
            self._data.sd_model = SimpleNamespace(forge_objects=objects)

        self._processing.manage_model_and_prompt_cache(reload)

    def make(self, images: Callable[[], None]) -> None:
        self._processing.process_images_inner(images)


class Loads:
    """Models by name, each as the host's patcher holds it, and what is done with them."""

    def __init__(
        self, manager: Any, believed: Believed, models: dict[str, Any], wide: int, seed: int
    ) -> None:
        self.manager, self.models, self._card = manager, models, believed
        self.chance = random.Random(seed)
        self.chosen: dict[str, Any] = dict(models)
        self.ours: Ours | None = None
        self.x = torch.randn(2, wide, generator=torch.Generator().manual_seed(4))
        self.seen: dict[str, Any] = {"images": [], "loaded": [], "streamed": [], "books": {}, "errors": 0}
        self.seen |= {"sizes": [], "pushed": 0, "beside": 0, "merged": [], "passed": [], "lora is wrong": []}
        self.seen |= {"ahead": []}

    def play(
        self,
        steps: Iterable[str],
        with_lora: Callable[[str, float], Any],
        patched: Collection[str],
        everywhere: Mapping[str, Callable[[], Any]],
        requests: Requests | None = None,
    ) -> None:
        """`steps`: models' names, or what `_step` knows. `patched`: models that get LoRAs, of the others those of
        `everywhere` one that is merged into every layer. `requests`: for the step of that name.
        """
        gc.collect()
        self._card.ends_here()
        built = self.ours.built(self.models) if self.ours is not None else None
        self._with_lora, self._everywhere, self._requests = with_lora, everywhere, requests
        self._patched, self._fit = list(patched), [name for name in self.models if name not in patched]
        for what in steps:
            if what in self.models:
                for _ in range(2 if what in patched else 1):
                    self._run(what)
            else:
                self._step(what)
            self._compare_books()
        self._end()
        del built

    def _step(self, what: str) -> None:
        if what == "room":
            self._room(self.chance.randrange(self._card.size * 2 // 5))
        elif what == "apart":
            self._run_beside_what_is_not_the_managers()
        elif what == "beside":
            self._run_beside_another()
        elif what == "lora":
            name, strength = self.chance.choice(self._patched), self.chance.choice([0.0, 0.5, 1.0])
            self.chosen[name] = self._with_lora(name, strength) if strength else self.models[name]
        elif what == "unload":
            self._unload()
        elif what == "request":
            assert self._requests is not None
            self._request(self._requests)
        elif what == "outside":
            self._unload_outside()
        elif what == "merge":
            self._merge_where_room_is_short()
        elif what == "pass":
            self._pass_where_room_is_short()
        elif what == "full":
            self._unload()
            # One that fits: of a load in part that fails the hosts themselves leave marks behind.
            with card.full(min(self._card.size // 8, 5 * MIB)):
                self._run_into_an_error(self.chance.choice(self._fit), "memory")
            self._card.ends_here()
            self._unload()
        else:
            name = self.chance.choice(self._patched)
            self._run_into_an_error(name, "on purpose", self.chance.randrange(24))

    def _request(self, requests: Requests) -> None:
        """That uses another checkpoint, most often: text encoders, the transformer; something else in between, or
        an end before that.
        """
        texts, transformer, other, chance = "encoder", "unet", "small", self.chance.random
        if chance() < 0.8:
            self._unload()
        if chance() < 0.8:
            requests.switch(self.chosen[texts], self.chosen[transformer])
        room = self.chance.randrange(self._card.size // 2)
        steps: list[Callable[[], None]] = []
        for likely, step in (
            (0.2, lambda: self._run(other)),
            (0.1, lambda: self._room(room)),
            (0.9, lambda: self._run(texts)),
            (0.1, lambda: self._run(other)),
            (0.1, lambda: self._run_into_an_error(transformer, "on purpose", self.chance.randrange(24))),
            (0.1, lambda: self._room(room)),
            (0.1, self._unload),
            (0.9, lambda: self._run(transformer)),
            (0.3, lambda: self._run(transformer)),
        ):
            if chance() < likely:
                steps.append(step)

        def images() -> None:
            for step in steps:
                step()
                self._compare_books()
                if self.ours is not None:
                    both = (self.models[name].model for name in (texts, transformer))
                    self.seen["ahead"].append([self.ours.ahead(model) for model in both])

        requests.make(images)

    def _unload_outside(self) -> None:
        """Of inference mode, as a request to unload does. One that fits: what was loaded in part after that Neo by
        itself fails to unload where it is quantised.
        """
        self._unload()
        name = self.chance.choice(self._fit)
        self._run(name)
        with torch.inference_mode(False):
            self._unload()
        self._run(name)
        self._unload()

    def _merge_where_room_is_short(self) -> None:
        """Beside another model, and then alone, with all of the card."""
        name = self.chance.choice([one for one in self._everywhere if one in self._fit])
        others = [one for one in self._fit if one != name]
        self._unload()
        for other in self.chance.sample(others, min(1, len(others))):
            self._run(other)
        self.chosen[name] = self._everywhere[name]()
        more = self.chance.randrange(6 * self.x.shape[1] ** 2 * 4)  # up to six layers in single precision
        before = card.refusals()
        with card.full(self.chosen[name].model_size() + more):
            short = self._image_or_nothing(name)
        refused = card.refusals() - before
        self._card.ends_here()
        self._unload()
        self.seen["merged"].append([short, self._image_or_nothing(name), refused])
        self.chosen[name] = self.models[name]

    def _pass_where_room_is_short(self) -> None:
        """Of a model that is there in part, with a LoRA that is computed at each use; before that, with room."""
        name = self.chance.choice([one for one in self._everywhere if one in self._patched])
        self._unload()
        self.chosen[name] = self._everywhere[name]()
        whole = self._image_or_nothing(name)
        layer = self.x.shape[1] ** 2 * 4
        more = layer + self.chance.randrange(4 * layer)
        before = card.refusals()
        more += self.ours.for_checks() if self.ours is not None else 0
        self._card.ends_here(self._on_the_card([name]) + more - self._card.size)
        short = self._image_or_nothing(name, load=False)
        refused = card.refusals() - before
        self._card.ends_here()
        self._unload()
        self.seen["passed"].append([short, whole, refused])
        self.chosen[name] = self.models[name]

    def _image_or_nothing(self, name: str, *, load: bool = True) -> str:
        try:
            if load:
                self._run(name)
            else:
                self._pass(name, self.chosen[name])
        except torch.OutOfMemoryError:
            return ""
        self.seen["lora is wrong"].pop()
        return str(self.seen["images"].pop())

    def _room(self, size: int) -> None:
        self.manager.free_memory(size, CARD)
        self.seen["errors"] += self.manager.get_free_memory(CARD) < size

    def _unload(self) -> None:
        self.manager.unload_all_models()
        self.seen["errors"] += self._card.taken() > KEPT

    def _run(self, name: str) -> None:
        patcher = self.chosen[name]
        before = self._on_the_card(self._patched)
        # One that is run once a load says nothing of what it needs.
        self.manager.load_models_gpu(
            [patcher], memory_required=self._card.inference * (name in self._patched)
        )
        if self.ours is not None and self.ours.streams(patcher.model) and name not in self._patched:
            self.seen["pushed"] += before - self._on_the_card(self._patched)
            self.seen["beside"] += before > 0
        if patcher.model.model_lowvram:
            self.seen["loaded"].append(f"{name} in part{' with a LoRA' if patcher.patches else ''}")
        self._pass(name, patcher)

    def _on_the_card(self, names: Iterable[str]) -> int:
        each = (parameter for name in names for parameter in self.models[name].model.parameters())
        return sum(parameter.nbytes for parameter in each if parameter.device == CARD)

    def _run_beside_another(self) -> None:
        """As a ControlNet: both are loaded for the same steps, and called in turns; one of them has to give way.

        Without LoRAs, and nothing of it stays, as the manager loads them in any order.
        """
        first, second = self.chance.choice(self._patched), self.chance.choice(self._fit)
        self.chosen[first] = self.models[first]
        both = [self.models[first], self.models[second]]
        self.manager.load_models_gpu(both, memory_required=self._card.inference)
        for size in (0, self.chance.randrange(self._card.size // 4)):
            self._room(size)
            for name in (second, first, second, first):
                self._pass(name, self.models[name])
            self._compare_books()
        self._unload()

    def _run_beside_what_is_not_the_managers(self) -> None:
        """As an upscaler: it asks for room, takes it, and what had to give way is called while it is there."""
        name = self.chance.choice(self._patched)
        self._run(name)
        size = self.chance.randrange(self._card.size // 5)
        self._room(size + self._card.inference)
        taken = torch.empty(size, dtype=torch.uint8, device=CARD)
        self._pass(name, self.chosen[name])
        del taken

    def _pass(self, name: str, patcher: Any) -> None:
        with torch.inference_mode():
            run = one_pass if self.ours is None else self.ours.run
            out = run(patcher.model, self.x).cpu()
        self.seen["errors"] += not torch.isfinite(out).all().item()
        self.seen["lora is wrong"].append(not _is_in_each_once(patcher))
        self.seen["images"].append(f"{name} {hashlib.sha256(out.numpy().tobytes()).hexdigest()[:16]}")
        lora = " with a LoRA" if patcher.patches else ""
        if self.ours is not None and self.ours.streams(patcher.model):
            self.seen["streamed"].append(f"{name}{lora}")

    def _run_into_an_error(self, name: str, words: str, fails: int | None = None) -> None:
        """`fails`: the layer in which it does."""
        self.models[name].model.fails = fails
        try:
            self._run(name)
        except RuntimeError as error:
            self.seen["errors"] += words not in str(error)
        else:
            self.seen["errors"] += 1
        self.models[name].model.fails = None

    def _compare_books(self) -> None:
        """What the manager believes to be on the card, and what is there; how large it takes models to be."""
        sizes = {"empties its cache": int(getattr(self.manager, "signal_empty_cache", False))}
        self.seen["sizes"].append(sizes)
        for loaded in self.manager.current_loaded_models:
            model = loaded.model.model
            there = sum(self._size_on_the_card(module) for module in model.modules())
            name = next(name for name, patcher in self.models.items() if patcher.model is model)
            layers = loaded.model._load_list()
            sizes[name] = loaded.model_memory()
            sizes[f"layers of {name}"] = sum(each[-4] for each in layers)
            sizes[f"what they take of {name}"] = sum(each[0] for each in layers)
            off = abs(loaded.model_loaded_memory() - there)
            self.seen["books"][name] = max(off, self.seen["books"].get(name, 0))
        if self.ours is not None:
            known = self._on_the_card(self.models) + self.ours.for_checks() + self.ours.for_rings()
            self.seen["nobody's"] = max(self._card.taken() - known, self.seen.get("nobody's", 0))

    def _size_on_the_card(self, module: torch.nn.Module) -> int:
        """Bytes by the manager's measure, in which a packed weight's scales and what is told of it count."""
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        there = [one.device == CARD for one in own]
        if not any(there):
            return 0
        self.seen["errors"] += not all(there)
        return int(self.manager.module_size(module))

    def _end(self) -> None:
        self.manager.unload_all_models()
        self.chosen = {}
        gc.collect()
        self.seen["left"] = self._card.taken()
        modules = [module for patcher in self.models.values() for module in patcher.model.modules()]
        self.seen["hooks"] = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)
        self.seen["failed"] = self.ours.failed if self.ours is not None else []

    def copies(self, weights: Callable[[str, str, torch.Tensor], Iterable[torch.Tensor]]) -> None:
        """Bytes of `weights` (of a model's name, a parameter's and it) that are in memory of their own at home."""
        ours = self.ours
        if ours is None:
            return
        each = (
            weights(name, parameter, tensor)
            for name, patcher in self.models.items()
            for parameter, tensor in patcher.model.named_parameters()
        )
        self.seen["copies"] = sum(part.nbytes for parts in each for part in parts if not ours.is_view(part))


def _is_in_each_once(patcher: Any) -> bool:
    """Whether every weight has its LoRA: merged, or computed when it is used."""
    for name, module in patcher.model.named_modules():
        for leaf in ("weight", "bias"):
            key, computed = f"{name}.{leaf}", getattr(module, f"{leaf}_function", ())
            if len(computed) + (key in patcher.backup) != (key in patcher.patches):
                return False
    return True
