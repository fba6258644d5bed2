"""One model as Forge built it: put aside without a byte on the device, and brought back as if built anew."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ...weights.checkpoints import Key
from ...weights.errors import WeightsError
from ...weights.files.mapping import Mapping
from ...weights.residency.as_built import AsBuilt
from ...weights.residency.backing import Backing
from .engine import CPU, patchers_of
from .weights import Attachment


class Built:
    """A model right after its build; `engine` is what the host calls the model.

    `key` is what it was built from, `failed` whether its last request raised, `ram` the bytes it has in RAM
    that no file stands behind. Raises WeightsError for a model that cannot be kept.
    """

    def __init__(self, engine: Any, attachment: Attachment) -> None:
        self.engine = engine
        self.key: Key | None = None
        self.failed = False
        self._attachment = attachment
        self._attributes = dict(vars(engine))
        self._objects = copy.copy(engine.forge_objects_original)
        self._patchers = list(patchers_of(engine))
        self._modules: list[torch.nn.Module] = [patcher.model for patcher in self._patchers]
        self._current = [getattr(patcher, "current_device", None) for patcher in self._patchers]
        self._as_built = [AsBuilt(module) for module in self._modules]
        self._mappings: list[Mapping] = []
        backings = [attachment.placement.of(module).backings() for module in self._modules]
        self.ram = sum(found[Backing.HOST] + found[Backing.NONE] for found in backings)

    def built_from(self, key: Key) -> None:
        """The files were the same ones before and after the build."""
        self.key = key
        around = self._attachment.placement.registry.around
        weights = (tensor for module in self._modules for tensor in module.parameters())
        found = (around(tensor.data_ptr(), tensor.nbytes) for tensor in weights)
        self._mappings = list({mapping.address: mapping for mapping in found if mapping is not None}.values())

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

    def put_aside(self, manager: Any) -> None:
        """Take it off the device and give it the state it was built with.

        Raises WeightsError (or whatever the host raises): then it must not be kept.
        """
        manager.unload_all_models()
        own = {id(module) for module in self._modules}
        # Left on the list is what the host never takes off it: models that stay on the CPU.
        for loaded in [each for each in manager.current_loaded_models if id(each.model.model) in own]:
            manager.current_loaded_models.remove(loaded)
            loaded.model_unload()
        for module in self._modules:
            # The host forgets abandoned clones and leaves their weights where they are.
            self._attachment.unload(module)
            loader = getattr(module, "lora_loader", None)
            if loader is not None and (loader.backup or loader.online_backup):
                loader.refresh({}, CPU)
        for module, as_built in zip(self._modules, self._as_built, strict=True):
            as_built.restore()
            loader = getattr(module, "lora_loader", None)
            if loader is not None:
                loader.loaded_hash = str([])
        if self.was_written:
            raise WeightsError(None, "somebody wrote into its weights in RAM")
        self._reset()

    def bring_back(self, parameters: dict[str, Any]) -> None:
        """Make it the host's model, with everything that a build sets. Not on the device yet."""
        from backend.args import dynamic_args
        from modules import script_callbacks, sd_models, shared

        self._reset()
        info = parameters["checkpoint_info"]
        dynamic_args["forge_unet_storage_dtype"] = parameters.get("unet_storage_dtype")
        dynamic_args["embedding_dir"] = shared.cmd_opts.embeddings_dir
        dynamic_args["emphasis_name"] = shared.opts.emphasis
        engine = self.engine
        engine.extra_generation_params, engine.comments = {}, []
        engine.sd_checkpoint_info, engine.filename = info, info.filename
        if hasattr(info, "calculate_shorthash"):
            engine.sd_model_hash = info.calculate_shorthash()
            shared.opts.data["sd_checkpoint_hash"] = info.sha256
        sd_models.model_data.set_sd_model(engine)
        script_callbacks.model_loaded_callback(engine)

    def _reset(self) -> None:
        # LoRAs, clones that scripts made, comments: all of it hangs on the attributes.
        self.engine.__dict__ = dict(self._attributes)
        for name in ("forge_objects", "forge_objects_original", "forge_objects_after_applying_lora"):
            setattr(self.engine, name, copy.copy(self._objects))
        for patcher, device in zip(self._patchers, self._current, strict=True):
            patcher.current_device = device


def key_of(parameters: dict[str, Any]) -> Key | None:
    """What a build with these loading parameters would depend on; None where no model is chosen."""
    from backend import memory_management as manager
    from backend.args import args
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
        "vram_state": manager.vram_state.name,
        "device": manager.get_torch_device(),
        "offload_device": manager.unet_offload_device(),
        **{f"--{name}": value for name, value in vars(args).items()},
    }
    return Key.of(files, sorted(settings.items()))


def _everything_in(folder: str | None) -> Iterable[str]:
    """A folder, its files and the folders in it: a name more or less changes the folder itself."""
    if not folder or not Path(folder).is_dir():
        return
    for root, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        yield root
        yield from (str(Path(root, name)) for name in sorted(files))
