"""When the texts of a request need their hashes: all of them after sampling, params.txt then once more.

The host writes params.txt before it samples. It gets its hashes when they are there: it is written anew if it
still is what the host wrote for this request.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .checkpoints import Checkpoints
from .here import Frame, Here
from .loras import LoraHashes

log = logging.getLogger("flux_speedup")


class Texts:
    """`computing` is entered for every request. `at_work` counts those under way, on all threads."""

    def __init__(
        self, checkpoints: Checkpoints, here: Here, computing: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._checkpoints = checkpoints
        self._here = here
        self._computing = computing
        self._lock = threading.Lock()
        self.at_work = 0

    # What is wrapped.

    def wrap_inner(self, original: Any) -> Any:
        def process_images_inner(p: Any, *args: Any, **kwargs: Any) -> Any:
            frame = Frame(p)
            self._here.frames.append(frame)
            self._here.opening = True
            self._count(1)
            try:
                with self._computing():
                    answer = original(p, *args, **kwargs)
            except BaseException:
                if frame.waiting_text:
                    threading.Thread(target=_finish, args=(frame,), daemon=True).start()
                raise
            finally:
                self._count(-1)
                self._here.opening = False
                self._here.frames.pop()
            _finish(frame)
            return answer

        return process_images_inner

    def wrap_setup_conds(self, original: Any) -> Any:
        def setup_conds(p: Any, *args: Any, **kwargs: Any) -> Any:
            self._here.encoding += 1
            try:
                done = original(p, *args, **kwargs)
            finally:
                self._here.encoding -= 1
            frame = self._here.frame
            if frame is not None and frame.p is p and not self._here.encoding and not frame.text_was_made:
                # The host's next text is the one for params.txt; what comes after that is after sampling.
                frame.text_was_made = True
                frame.text_is_due = _writes_params() and self._is_late(p)
            return done

        return setup_conds

    def wrap_sample(self, original: Any) -> Any:
        def sample(p: Any, *args: Any, **kwargs: Any) -> Any:
            frame = self._due(p)
            if frame is not None:
                frame.text_is_due = False
            return original(p, *args, **kwargs)

        return sample

    def wrap_processed(self, original: Any) -> Any:
        def __init__(processed: Any, p: Any, images_list: Any, *args: Any, **kwargs: Any) -> None:
            frame = self._due(p)
            if frame is None or images_list:
                original(processed, p, images_list, *args, **kwargs)
                return
            frame.with_tokens = True
            try:
                original(processed, p, images_list, *args, **kwargs)
            finally:
                frame.with_tokens = False

        return __init__

    def wrap_infotext(self, original: Any) -> Any:
        def infotext(processed: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
            frame = self._due(p)
            if frame is None:
                return original(processed, p, *args, **kwargs)
            frame.text_is_due, frame.with_tokens = False, True
            try:
                text = original(processed, p, *args, **kwargs)
            finally:
                frame.with_tokens = False
            if any(token in text for token in frame.tokens):
                frame.waiting_text = text
            return _filled(text, frame, without=True)

        return infotext

    def wrap_js(self, original: Any) -> Any:
        def js(processed: Any, *args: Any, **kwargs: Any) -> Any:
            said = processed.extra_generation_params
            for key, value in list(said.items()) if isinstance(said, dict) else ():
                if not isinstance(value, LoraHashes):
                    continue
                text = value()
                if text:
                    said[key] = text
                else:
                    del said[key]
            return original(processed, *args, **kwargs)

        return js

    def wrap_shown(self, original: Any) -> Any:
        """For what shows or saves entries or options: as long as another thread's request waits, the old ones."""

        def shown(*args: Any, **kwargs: Any) -> Any:
            with self._checkpoints.shown(waits=self._here.frame is not None or not self.at_work):
                return original(*args, **kwargs)

        return shown

    # Helpers.

    def _count(self, by: int) -> None:
        with self._lock:
            self.at_work += by

    def _due(self, p: Any) -> Frame | None:
        frame = self._here.frame
        return frame if frame is not None and frame.text_is_due and frame.p is p else None

    def _is_late(self, p: Any) -> bool:
        said = getattr(p, "extra_generation_params", None) or {}
        return self._checkpoints.is_late(p) or any(isinstance(each, LoraHashes) for each in said.values())


def _writes_params() -> bool:
    from modules import shared

    return not getattr(shared.cmd_opts, "no_prompt_history", False)


def _filled(text: str, frame: Frame, *, without: bool) -> str:
    """The text with the values of its tokens, or without those that have none (or `without` all of them)."""
    from modules.infotext_utils import quote

    for token, (key, resolve) in frame.tokens.items():
        value = resolve() if not without and token in text else None
        if value is None:
            text = text.replace(f", {key}: {token}", "").replace(f"{key}: {token}, ", "")
        else:
            text = text.replace(token, str(quote(value)))
    return text


def _finish(frame: Frame) -> None:
    """Write params.txt once more, with the hashes in it; whatever fails leaves it as it is."""
    if not frame.waiting_text:
        return
    try:
        from modules.paths import data_path

        file = Path(data_path, "params.txt")
        written = _filled(frame.waiting_text, frame, without=True)
        final = _filled(frame.waiting_text, frame, without=False)
        if file.read_bytes() == written.replace("\n", os.linesep).encode("utf8"):
            with file.open("w", encoding="utf8") as out:
                out.write(final)
    except Exception as error:
        log.info("params.txt stays without the hash (%s)", error)
