"""One model as its host built it: put aside without a byte on the device, and brought back as if built anew."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch

from ...weights.checkpoints import Key
from ...weights.errors import WeightsError
from ...weights.files.mapping import Mapping
from ...weights.residency.as_built import AsBuilt
from ...weights.residency.backing import Backing
from ...weights.residency.placement import Placement
from .engine import patchers_of, texts_of

TOLD = {"model_options", "object_patches", "lora_patches", "patches", "controlnet_linked_list"}
TOLD |= {f"extra_{name}_during_sampling" for name in ("preserved_memory", "model_patchers")}
TOLD |= {"extra_concat_condition"}


class Builds(Protocol):
    """The weights of a host, as far as keeping models goes."""

    @property
    def placement(self) -> Placement: ...

    def was_built_from_files(self) -> bool:
        """Whether every file of the build that this thread has just made was mapped by us. Answers once."""


class Habits(Protocol):
    """Where hosts that build models in the same way differ."""

    def settings(self, parameters: dict[str, Any]) -> dict[str, object]:
        """What a build with these loading parameters depends on, besides its files."""

    def noted(self) -> Any:
        """What the build just made has set for the whole process: for `in_use`."""

    def patcher_as_built(self, patcher: Any) -> Any:
        """What `reset` needs to know of a patcher."""

    def reset(self, patcher: Any, as_built: Any) -> None:
        """A patcher's own state becomes what `patcher_as_built` saw."""

    def check(self, engine: Any) -> None:
        """Raises WeightsError where a model cannot be put aside."""

    def take_off(self, patcher: Any) -> None:
        """Take LoRAs out, and off the device what the memory manager has forgotten."""

    def in_use(self, engine: Any, parameters: dict[str, Any], noted: Any) -> None:
        """Make it the host's model, with everything that a build sets for the whole process."""


class Built:
    """A model right after its build; `engine` is what the host calls the model.

    `key` is what it was built from, `failed` whether its last request raised. Raises WeightsError for a model that
    cannot be kept.
    """

    def __init__(self, engine: Any, builds: Builds, habits: Habits) -> None:
        self.engine = engine
        self.key: Key | None = None
        self.failed = False
        self._builds = builds
        self._habits = habits
        self._noted = habits.noted()
        self._attributes = dict(vars(engine))
        self._filled = {k: copy.copy(v) for k, v in vars(engine).items() if isinstance(v, (list, dict))}
        self._texts = [(text, dict(vars(text))) for text in texts_of(engine)]
        self._objects = copy.copy(engine.forge_objects_original)
        self._patchers = [(patcher, habits.patcher_as_built(patcher)) for patcher in patchers_of(engine)]
        self._told = [(patcher, _told(patcher)) for patcher, _ in self._patchers]
        self._modules: list[torch.nn.Module] = [patcher.model for patcher, _ in self._patchers]
        self._as_built = [AsBuilt(module) for module in self._modules]
        self._mappings: list[Mapping] = []

    def built_from(self, key: Key) -> None:
        """The files were the same ones before and after the build."""
        self.key = key
        around = self._builds.placement.registry.around
        weights = (tensor for module in self._modules for tensor in module.parameters())
        found = (around(tensor.data_ptr(), tensor.nbytes) for tensor in weights)
        self._mappings = list({mapping.address: mapping for mapping in found if mapping is not None}.values())

    @functools.cached_property
    def ram(self) -> int:
        """Bytes it has in RAM that no file stands behind; asked once it is aside."""
        placement = self._builds.placement
        backings = [placement.of(module).backings() for module in self._modules]
        return sum(found[Backing.HOST] + found[Backing.NONE] for found in backings)

    @property
    def name(self) -> str:
        """The file of its checkpoint, for people."""
        return Path(self.key.files[0][0]).name if self.key is not None else "a model"

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """What the host moves to the device, one by one."""
        return tuple(self._modules)

    @property
    def file_bytes(self) -> int:
        """Size of the weight files behind it."""
        return sum(mapping.identity.size for mapping in self._mappings)

    @property
    def was_written(self) -> bool:
        """Whether somebody wrote into its weights at home, or over their files."""
        return any(mapping.written() != [] for mapping in self._mappings)

    def put_aside(self, manager: Any, once_off: Callable[[], None] = lambda: None) -> None:
        """Take it off the device, tell `once_off`, and give it the state it was built with.

        Raises WeightsError (or whatever the host raises): then it must not be kept.
        """
        self._habits.check(self.engine)
        placement = self._builds.placement
        for module, as_built in zip(self._modules, self._as_built, strict=True):
            as_built.leave(placement.of(module).held)
        with placement.discarding():  # whatever was changed: it becomes what it was built with
            self._take_off(manager)
        once_off()
        for as_built in self._as_built:
            as_built.restore()
        if self.was_written:
            raise WeightsError(None, "somebody wrote into its weights in RAM")
        self._reset()

    def _take_off(self, manager: Any) -> None:
        manager.unload_all_models()
        own = {id(module) for module in self._modules}
        # Left on the list is what the host never takes off it: models that stay on the CPU.
        listed = [each for each in manager.current_loaded_models if each.model is not None]
        for loaded in [each for each in listed if id(each.model.model) in own]:
            manager.current_loaded_models.remove(loaded)
            loaded.model_unload()
        for patcher, _ in self._patchers:
            # The host forgets abandoned clones and leaves their weights where they are.
            self._habits.take_off(patcher)

    def bring_back(self, parameters: dict[str, Any]) -> None:
        """Make it the host's model, with everything that a build sets. Not on the device yet."""
        from modules import script_callbacks, shared

        self._reset()
        info = parameters["checkpoint_info"]
        engine = self.engine
        engine.extra_generation_params, engine.comments = {}, []
        engine.sd_checkpoint_info, engine.filename = info, info.filename
        if hasattr(info, "calculate_shorthash"):
            engine.sd_model_hash = info.calculate_shorthash()
            shared.opts.data["sd_checkpoint_hash"] = info.sha256
        self._habits.in_use(engine, parameters, self._noted)
        script_callbacks.model_loaded_callback(engine)

    def _reset(self) -> None:
        # LoRAs, clones that scripts made, comments: all of it hangs on the attributes.
        self.engine.__dict__ = {**self._attributes, **{k: copy.copy(v) for k, v in self._filled.items()}}
        for name in ("forge_objects", "forge_objects_original", "forge_objects_after_applying_lora"):
            setattr(self.engine, name, copy.copy(self._objects))
        for text, attributes in self._texts:
            vars(text).clear()
            vars(text).update(attributes)
        for patcher, told in self._told:
            vars(patcher).update(_copied(told))
        for patcher, as_built in self._patchers:
            self._habits.reset(patcher, as_built)


def _told(patcher: Any) -> dict[str, Any]:
    """What scripts tell a patcher of a step: most tell a clone, but not all."""
    return {name: _copied(held) for name, held in vars(patcher).items() if name in TOLD}


def _copied(held: Any) -> Any:
    """Containers anew, with the very same things in them."""
    if type(held) is dict:
        return {key: _copied(each) for key, each in held.items()}
    return [_copied(each) for each in held] if type(held) is list else held


def key_of(parameters: dict[str, Any], habits: Habits) -> Key | None:
    """What a build with these loading parameters would depend on; None where no model is chosen."""
    from modules import shared

    info = parameters.get("checkpoint_info")
    if info is None:
        return None
    additional = parameters.get("additional_modules")
    embeddings = shared.cmd_opts.embeddings_dir
    files = [
        info.filename,
        os.path.splitext(info.filename)[0] + ".yaml",  # noqa: PTH122 (as the host names it)
        *(additional if isinstance(additional, list) else ()),
        *_everything_in(embeddings),
    ]
    settings = {
        "unet_storage_dtype": parameters.get("unet_storage_dtype"),
        "emphasis": shared.opts.emphasis,
        "embeddings": embeddings,
        **habits.settings(parameters),
    }
    return Key.of(files, sorted(settings.items()))


def managed_settings(manager: Any, args: Any) -> dict[str, object]:
    """What a memory manager and the flags it was started with do to a build."""
    return {
        "vram_state": manager.vram_state.name,
        "device": manager.get_torch_device(),
        "offload_device": manager.unet_offload_device(),
        **{f"--{name}": value for name, value in vars(args).items()},
    }


def _everything_in(folder: str | None) -> Iterable[str]:
    """A folder, its files and the folders in it: a name more or less changes the folder itself."""
    if not folder or not Path(folder).is_dir():
        return
    for root, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        yield root
        yield from (str(Path(root, name)) for name in sorted(files))
