"""What every WebUI of the A1111 family has: folders, flags, options, callbacks. No memory manager of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape as html_escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...configuration.setting import EVERYWHERE
from ...configuration.settings import SETTINGS
from ...configuration.sources import OPTION_PREFIX
from ...memory import Card, MemoryPlan
from ...patching.change import Call, Change, Declined, Undo, apply, in_reverse
from ...stats.events import Event
from . import callbacks, gradio_apps, local_weights, settings_file, translations
from .card import torch_card
from .loads import CheckpointLoads
from .optional import whatever_is_there

if TYPE_CHECKING:
    from ...local_models.redirect import LocalModels
    from ...stats.tracking import Tracking
    from ...ui.settings import Option
    from .credentials import Credentials
    from .inside import Inside
    from .names import Names
    from .pruning import Pruner
    from .sampling import Streamed
    from .stages import Stages

Record = Callable[[Event], None]
NOT_AVAILABLE = "not available on this WebUI"
SECTION = ("flux_speedup", "Flux Speedup")


@dataclass(frozen=True)
class MemoryItem:
    """One part of a memory plan as an item of the patch table; `why` has the figures, where there are any."""

    key: str
    title: str
    why: str
    changes: list[Change]


class WebUI:
    """A host of which nothing but the family is known: whatever takes knowing more is not available.

    Methods named `*_changes` describe changes for the patch table and change nothing themselves. Where this
    host has none for an item they raise Declined, with the reason.

    has_tiers: its memory numbers can be set. runs_flux: it can load a Flux checkpoint.
    family: its name in the table of settings. builds_at_start: a model may be under way when it has started.
    unavailable: why an item has no changes here, by the item's key.
    weights_item: what is done about weights, and why.
    """

    has_tiers = False
    runs_flux = False
    family = ""
    builds_at_start = True
    unavailable: ClassVar[Mapping[str, str]] = {}
    weights_item = ("Weights stay in their files", "the GPU is a cache over the files")

    def __init__(self) -> None:
        # Options that the user changed while ours were in force: theirs until the next start.
        self._users_own: set[str] = set()
        self._pruner: Pruner | None = None
        self._stages: Stages | None = None

    @property
    def name(self) -> str:
        """What people call this WebUI."""
        return "WebUI of the A1111 family"

    def why_not(self, item: str) -> str:
        """Why an item is not available here."""
        return self.unavailable.get(item, NOT_AVAILABLE)

    def offers(self, option: str) -> bool:
        """Whether an entry of the Settings section does anything here."""
        hosts = SETTINGS[option.removeprefix(OPTION_PREFIX)].hosts
        return hosts == EVERYWHERE or self.family in hosts

    # Folders and flags: usable from preload on.

    def data_folder(self) -> Path | None:
        """Where the WebUI keeps the user's data (`--data-dir`)."""
        paths = sys.modules.get("modules.paths_internal")
        found = getattr(paths, "data_path", None)
        return Path(found) if found else None

    def cache_folder(self) -> Path | None:
        """Where our own files go: the WebUI's git ignores it."""
        data = self.data_folder()
        return data / "cache" / "flux-speedup" if data else None

    def settings_file(self) -> Path | None:
        """The file the WebUI saves its options in."""
        arguments = getattr(sys.modules.get("launch"), "args", None)
        found = getattr(arguments, "ui_settings_file", None)
        return Path(found) if found else None

    def settings(self) -> Mapping[str, object] | None:
        """The options as loaded, or None while they are not."""
        opts = self._opts()
        return opts.data if opts is not None else None

    def simulated(self) -> bool:
        """The device is a stand-in and no figure counts as a measurement."""
        return False

    # Memory: what a host without a manager answers.

    def card(self) -> Card:
        return torch_card(getattr(sys.modules.get("launch"), "args", None))

    def vram_flag(self) -> str | None:
        """The memory flag the user started the WebUI with, which wins over the tier."""
        return None

    def memory_changes(self, plan: MemoryPlan) -> list[MemoryItem]:
        """An item for every part of the plan."""
        return []

    def memory_options(self, plan: MemoryPlan) -> dict[str, tuple[str, object]]:
        """Item -> (option, value): the WebUI's options that go with items in force."""
        return {}

    def streams_unavailable(self) -> str | None:
        """Why no copy stream can be used, or None where one can."""
        return self.why_not("streams")

    def stream_changes(self) -> list[Change]:
        return []

    def page_changes(self, held: Callable[[], frozenset[str]]) -> list[Change]:
        """Changes that keep memory settings through page loads; `held` names the items they must keep."""
        return []

    def callback_changes(self) -> list[Change]:
        """Changes that make registering a callback cheap."""
        return callbacks.changes()

    def settings_file_changes(self) -> list[Change]:
        """Changes that keep the WebUI's settings file whole, and free of what is ours."""
        return settings_file.changes()

    def page_changes_at_build(self) -> list[Change]:
        """Changes that leave out work which building the page does for nothing."""
        return gradio_apps.changes()

    def translation_changes(self, translate: Callable[[str, object], str]) -> list[Change]:
        """Changes that let our texts join the user's localisation; `translate` as translations.Translate."""
        return translations.changes(translate)

    def pruner(self) -> Pruner:
        """What leaves scripts out when the WebUI lists them; one for the life of the process."""
        if self._pruner is None:
            from ...pruning.disabled import Remembered
            from .pruning import Pruner

            self._pruner = Pruner(lambda: Remembered(self.cache_folder()).names())
        return self._pruner

    def weight_changes(self, direct: float) -> list[Change]:
        """Changes that stream weights from their files and drop them at unload.

        `direct`: the share of RAM that files may take which are registered, so that the GPU reads them itself.
        """
        raise Declined(self.why_not("weights"))

    def checkpoint_changes(
        self, limits: tuple[int, int], record: Record, held: Callable[[], frozenset[str]]
    ) -> list[Change]:
        """Changes that keep built models: (so many, bytes of RAM) at most. Asked after `weight_changes`."""
        raise Declined(self.why_not("checkpoints"))

    def streaming_changes(self, registers: bool) -> list[Change]:
        """Changes that stream what does not fit on the card. Asked after `weight_changes`.

        `registers`: files may be registered, so that the GPU reads them itself.
        """
        return []

    def overlap_changes(self) -> list[Change]:
        """Changes that bring the transformer while the text is encoded. Asked after `streaming_changes`."""
        raise Declined(self.why_not("overlap"))

    def unload_changes(self) -> list[Change]:
        """Changes that unload models and forget encodings only where something they depend on changed."""
        raise Declined(self.why_not("needless_unloads"))

    def digest_changes(self) -> list[Change]:
        """Changes that compute the sha256 of a weight file once, and off the path where possible."""
        raise Declined(self.why_not("digest"))

    def hash_wait_changes(self, never: bool) -> list[Change]:
        """Changes that let no load wait for a checkpoint's hash. Asked after `digest_changes`.

        `never`: images go without a hash that is not there yet.
        """
        return []

    def lora_hash_wait_changes(self) -> list[Change]:
        """The same for LoRAs. Asked after `hash_wait_changes`."""
        return []

    def read_ahead_changes(self) -> list[Change]:
        """Changes that read the selected model's files ahead. Asked after `digest_changes`."""
        raise Declined(self.why_not("read_ahead"))

    def read_ahead_progress(self) -> tuple[int, int]:
        """Bytes of the selected model's files that were read ahead so far, and of all that had to be."""
        return 0, 0

    def weight_folders(self, kind: str) -> list[Path]:
        """Where this WebUI looks for the small weights of a kind (adetailer, esrgan, ...)."""
        return local_weights.places(kind)

    def adetailer_changes(self, models: Callable[[], LocalModels]) -> list[Change]:
        """Changes that answer ADetailer with local files."""
        return local_weights.adetailer_changes(models)

    def upscaler_changes(self, models: Callable[[], LocalModels]) -> list[Change]:
        """Changes that answer the WebUI's own downloads with local files."""
        return local_weights.upscaler_changes(models)

    def completing_changes(self, models: LocalModels) -> dict[str, Change]:
        """Item -> a change of lists that were built before the item was in force."""
        return {
            "adetailer_weights": Call(partial(local_weights.complete_adetailer, models)),
            "upscaler_weights": Call(partial(local_weights.complete_upscalers, models)),
        }

    def timing_changes(self, record: Record) -> list[Change]:
        """Changes that report what this host tells of loading: here, every checkpoint as a whole."""
        return CheckpointLoads(record).changes()

    def request_changes(self, tracking: Tracking, in_infotext: bool) -> list[Change]:
        """Changes that tell `tracking` which stage of which request runs.

        `in_infotext`: images name what loading took.
        """
        from .sampling import Sampling
        from .stages import Stages

        self._stages = Stages(tracking, in_infotext)
        sampling = Call(partial(whatever_is_there, Sampling(tracking, self.streams).changes()))
        return [*self._stages.changes(), sampling]

    def streams(self) -> Sequence[Streamed]:
        """Models of which a part comes to the device while they compute."""
        return ()

    def late_request_changes(self) -> list[Change]:
        """Those for what is there only once the WebUI has started."""
        return self._stages.late_changes() if self._stages is not None else []

    # The started WebUI.

    def inside(self) -> Inside:
        """What can be asked of it and done to it."""
        from .inside import Inside

        return Inside()

    def startup_stages(self) -> list[tuple[str, float]]:
        """(stage, seconds) of this start, as the WebUI timed it, and the total under the name `total`."""
        timer = getattr(sys.modules.get("modules.timer"), "startup_timer", None)
        if timer is None:
            return []
        return [*timer.records.items(), ("total", timer.total)]

    def on(self, event: str, function: Callable[..., Any]) -> None:
        """Register a callback by its name in `modules.script_callbacks`, without the `on_`."""
        from modules import script_callbacks

        getattr(script_callbacks, f"on_{event}")(function)

    def knows(self, event: str) -> bool:
        """Whether this WebUI has that callback."""
        return hasattr(sys.modules.get("modules.script_callbacks"), f"on_{event}")

    def has_our_settings(self) -> bool:
        """Whether our section is on the Settings page, or there are no options at all."""
        return f"{OPTION_PREFIX}enabled" in getattr(self._opts(), "data_labels", (f"{OPTION_PREFIX}enabled",))

    def add_settings(
        self,
        options: Iterable[Option],
        html: Callable[..., Any],
        changed: Callable[[], None],
        configured: Mapping[str, str],
    ) -> None:
        """Put our section on the Settings page; `html` builds its last, unsaved component.

        configured: by an option's key what "as configured" comes to, in words.
        """
        import gradio as gr
        from modules import shared

        for option in options:
            info = shared.OptionInfo(
                option.default, option.label, gr.Radio, {"choices": list(option.choices)}, section=SECTION
            )
            info.info(option.info)
            if option.restart:
                info.needs_restart()
            else:
                info.needs_reload_ui()
            behind = html_escape(configured.get(option.key, ""))
            after = getattr(info, "comment_after", "")
            info.comment_after = f"{after} <span class='info'>[{behind}]</span>"
            shared.opts.add_option(option.key, info)
        # A handler on the master switch only: it must work at once.
        shared.opts.onchange("flux_speedup_enabled", changed, call=False)
        panel = shared.OptionInfo("", "", html, section=SECTION)
        panel.do_not_save = True
        shared.opts.add_option("flux_speedup_changes", panel)

    def api_is_on(self) -> bool:
        """The WebUI serves an API: `--api` or `--nowebui`."""
        flags = self._flags()
        return bool(getattr(flags, "api", False) or getattr(flags, "nowebui", False))

    def credentials(self, *, page: bool) -> Credentials | None:
        """For HTTP Basic: those of `--api-auth`; without a page, which has a login, else those of the login."""
        from .credentials import Credentials

        flags = self._flags()
        found = Credentials.of_api(getattr(flags, "api_auth", None))
        if found is not None or page:
            return found
        return Credentials.of_page(
            getattr(flags, "gradio_auth", None), getattr(flags, "gradio_auth_path", None)
        )

    def names(self, allowed: Iterable[str]) -> Names:
        """What this server is called, with those that the setting `allowed_hosts` adds."""
        from .names import names

        return names(self._flags(), allowed)

    def option_change(self, key: str, value: object) -> Change:
        """Set an option; put back only while it still has our value, and never over the user's own."""
        return Call(lambda: self._set_option(key, value))

    def _set_option(self, key: str, value: object) -> Undo:
        opts = self._opts()
        if opts is None or key not in opts.data_labels:
            raise Declined(f"this WebUI has no option {key}")
        if key in self._users_own:
            raise Declined(f"{key}: the user's own value until the next start")
        before = opts.data.get(key, settings_file.MISSING)
        try:
            opts.set(key, value, run_callbacks=False)
        except AssertionError as error:
            raise Declined(
                f"option {key} cannot be set ({error}); the memory manager's value is set alone"
            ) from error
        if getattr(opts, key) != value:
            raise Declined(f"option {key} is restricted; the memory manager's value is set alone")

        def undo() -> None:
            if opts.data.get(key) != value:
                self._users_own.add(key)
            elif before is settings_file.MISSING:
                opts.data.pop(key, None)
            else:
                opts.data[key] = before

        try:
            save_again = apply(settings_file.keep_out(opts, key, value, before))
        except Exception as error:
            undo()
            raise Declined(
                f"option {key}: its value would be saved for good ({error}); the memory manager's is set alone"
            ) from error
        return in_reverse([save_again, undo])

    @staticmethod
    def _opts() -> Any:
        return getattr(sys.modules.get("modules.shared"), "opts", None)

    @staticmethod
    def _flags() -> Any:
        return getattr(sys.modules.get("modules.shared"), "cmd_opts", None)
