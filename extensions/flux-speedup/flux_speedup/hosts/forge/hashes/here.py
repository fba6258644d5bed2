"""What a thread is doing, as far as hashes go: loading a checkpoint, working on a request."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Any

Resolve = Callable[[], str | None]


class Frame:
    """One pass of the host over a processing object, `p`.

    Its text for params.txt is made before the hashes in it need be there: `token` stands for one in there.
    """

    def __init__(self, p: Any) -> None:
        self.p = p
        self.text_is_due = False
        self.text_was_made = False
        self.with_tokens = False
        self.tokens: dict[str, tuple[str, Resolve]] = {}
        self.waiting_text = ""

    def token(self, key: str, resolve: Resolve) -> str:
        """What stands for the value of `key` in the text; nobody's prompt has it in it."""
        made = secrets.token_hex(16)
        self.tokens[made] = key, resolve
        return made


class Here(threading.local):
    """By thread. `expecting`: the host is going to ask for the hash of what it loads. `unasked`: the checkpoint

    whose full hash it reads next, for an option. `opening`: a request takes over what the model says of itself.
    `quiet`: what reads an entry takes it as it is.
    """

    def __init__(self) -> None:
        self.loading = 0
        self.expecting = False
        self.unasked: Any = None
        self.opening = False
        self.quiet = 0
        self.settling = False
        self.activating = 0
        self.encoding = 0
        self.frames: list[Frame] = []

    @property
    def frame(self) -> Frame | None:
        """The innermost pass, if there is one."""
        return self.frames[-1] if self.frames else None

    @property
    def with_tokens(self) -> bool:
        """Whether the text that is being made gets its hashes later."""
        return bool(self.frames) and self.frames[-1].with_tokens
