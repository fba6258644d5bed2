"""What can be asked of a started WebUI, and done to it, while nobody makes an image."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .forms import FormUse
from .options import flags, opts

BUSY = "an image is being made; try again when it is done"


class Refused(RuntimeError):
    """An action cannot be done now; the message says why, for people."""


class Forbidden(Refused):
    """A request that the rules do not let through. `status`: what HTTP calls it."""

    def __init__(self, why: str, status: int = 403) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Model:
    """A built checkpoint. key: for `drop`. where: "in use", "kept". bytes: in files, on the device, in RAM."""

    key: str
    name: str
    where: str
    file_bytes: int
    device_bytes: int
    ram_bytes: int
    forms: tuple[FormUse, ...] = ()


class Inside:
    """A WebUI of the A1111 family. Every name is looked for; what is missing is not known or not possible."""

    # Reading: cheap, from any thread.

    def busy(self) -> bool:
        """Whether an image is made right now: whoever makes one holds the queue's lock."""
        lock = _queue_lock()
        if lock is None:
            return bool(getattr(getattr(_shared(), "state", None), "job", ""))
        if not lock.acquire(False):
            return True
        lock.release()
        return False

    def selected_file(self) -> Path | None:
        """The file of the checkpoint that the next image would use."""
        models = sys.modules.get("modules.sd_models")
        name = getattr(opts(), "sd_model_checkpoint", None)
        for listed in ("checkpoint_aliases", "checkpoints_list"):
            found = (getattr(models, listed, None) or {}).get(name)
            if found is not None:
                return Path(found.filename)
        return None

    def device(self) -> Any:
        """The GPU as torch names it, None where there is none."""
        cuda = getattr(sys.modules.get("torch"), "cuda", None)
        if cuda is None or not cuda.is_available():
            return None
        return sys.modules["torch"].device("cuda", cuda.current_device())

    def vram(self) -> tuple[int, int] | None:
        """(used, total) bytes of the whole card, by whoever uses it."""
        device = self.device()
        if device is None or device.type != "cuda":
            return None
        try:
            free, total = sys.modules["torch"].cuda.mem_get_info(device)
        except RuntimeError:
            return None
        return total - free, total

    def vram_by_model(self) -> tuple[tuple[str, int], ...]:
        """(component, bytes) of every model on the device."""
        return ()

    def inference(self) -> int | None:
        """Bytes that are kept free on the device for computing."""
        return None

    def weights_in_ram(self) -> tuple[int | None, int | None]:
        """Bytes of mapped weight files in the page cache, and of pinned memory of ours."""
        return None, None

    def models(self) -> list[Model]:
        """Built checkpoints, the one in use first."""
        info = getattr(_model(), "sd_checkpoint_info", None)
        path = Path(info.filename) if info is not None else None
        return [] if path is None else [Model("in use", path.name, "in use", _size(path), 0, 0)]

    def checkpoints(self) -> list[tuple[Path, tuple[str, ...]]]:
        """The file of every checkpoint that the WebUI lists, and all names that a request may call it."""
        models = sys.modules.get("modules.sd_models")
        names: dict[Path, list[str]] = {}
        for listed in ("checkpoints_list", "checkpoint_aliases"):
            for name, info in list((getattr(models, listed, None) or {}).items()):
                if name and name not in names.setdefault(Path(info.filename), []):
                    names[Path(info.filename)].append(str(name))
        return [(path, tuple(called)) for path, called in names.items()]

    def in_memory(self) -> dict[Path, str]:
        """By the file of a checkpoint that is built: on the "card", or "kept" beside it."""
        info = getattr(_model(), "sd_checkpoint_info", None)
        if info is None:
            return {}
        on_card = self.device() is None or any(held for _, held in self.vram_by_model())
        return {Path(info.filename): "card" if on_card else "kept"}

    def writes_refused(self) -> str | None:
        """Why the WebUI lets nobody change it from outside, None where it does."""
        if getattr(flags(), "disable_extension_access", False):
            return "extension access is disabled because of command line flags"
        return None

    # Acting. Each raises Refused.

    def drop(self, key: str) -> str:
        """Forget a kept model; a sentence on what was freed."""
        raise Refused("this WebUI keeps no models")

    def free_vram(self) -> str:
        """Take every model off the device; a sentence on what was freed."""
        raise Refused("not available on this WebUI")

    def set_options(self, values: Mapping[str, str]) -> None:
        """Set options and save them, as the Settings page does. Raises Refused: then nothing is saved."""
        found = opts()
        if found is None:
            raise Refused("the WebUI's settings are not there yet")
        before = {key: found.data[key] for key in values if key in found.data}
        try:
            for key, value in values.items():
                found.set(key, value)
            _require_taken(found, values)
            found.save(_shared().config_filename)
        except BaseException as error:
            for key in values:
                found.data.pop(key, None)
            found.data.update(before)
            if isinstance(error, AssertionError):
                raise Forbidden(str(error) or "changing settings is disabled") from error
            if isinstance(error, (OSError, TypeError, ValueError)):
                raise Refused(
                    f"the WebUI's settings cannot be saved ({error}); nothing is changed"
                ) from error
            raise

    @contextmanager
    def nobody_else(self) -> Iterator[None]:
        """No image is made in here: one that is asked for waits. Raises Refused where one is made."""
        lock = _queue_lock()
        if lock is None:
            if self.busy():
                raise Refused(BUSY)
            yield
            return
        if not lock.acquire(False):
            raise Refused(BUSY)
        try:
            yield
        finally:
            lock.release()

    def when_idle(self, act: Callable[[], None]) -> None:
        """Do it on a thread of its own once no image is made; whoever asks for one meanwhile waits."""
        threading.Thread(target=_locked, args=(act,), name="flux-speedup-when-idle", daemon=True).start()

    def wait_and(self, act: Callable[[], object]) -> None:
        """Do it on this thread once no image is made; whoever asks for one meanwhile waits."""
        _locked(act)


def _require_taken(opts: Any, values: Mapping[str, str]) -> None:
    restricted = [key for key, value in values.items() if getattr(opts, key) != value]
    if restricted:
        raise Forbidden(f"restricted in this WebUI: {', '.join(restricted)}")


def _locked(act: Callable[[], object]) -> None:
    lock = _queue_lock()
    if lock is None:
        act()
        return
    lock.acquire()
    try:
        act()
    finally:
        lock.release()


def _model() -> Any:
    data = getattr(sys.modules.get("modules.sd_models"), "model_data", None)
    return getattr(data, "sd_model", None)


def _shared() -> Any:
    return sys.modules.get("modules.shared")


def _queue_lock() -> Any:
    queue = sys.modules.get("modules.call_queue")
    return getattr(queue, "queue_lock", None) or getattr(_shared(), "queue_lock", None)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0
