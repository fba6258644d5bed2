"""Names and passwords that the WebUI was started with, and whether a pair is one of them. Pure but for a file."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Credentials:
    """Pairs of a name and a password. Shows none of them."""

    def __init__(self, entries: Iterable[str]) -> None:
        """entries: `user:password`, where a password may hold ":". One without ":" lets nobody in."""
        pairs = (entry.partition(":") for entry in entries)
        self._passwords = {_bytes(user): _bytes(password) for user, colon, password in pairs if colon}

    @classmethod
    def of(cls, flags: Any, *, page: bool) -> Credentials | None:
        """For HTTP Basic: those of `--api-auth`; without a page, which has a login, else those of the login."""
        found = cls.of_api(getattr(flags, "api_auth", None))
        if found is not None or page:
            return found
        return cls.of_page(getattr(flags, "gradio_auth", None), getattr(flags, "gradio_auth_path", None))

    @classmethod
    def of_api(cls, api_auth: str | None) -> Credentials | None:
        """From the value of `--api-auth`; None where it is not set."""
        return cls(api_auth.split(",")) if api_auth else None

    @classmethod
    def of_page(cls, gradio_auth: str | None, file: str | None) -> Credentials | None:
        """From `--gradio-auth` and `--gradio-auth-path`, as the WebUI reads them; None where neither is set.

        A file that cannot be read lets nobody in.
        """
        if not gradio_auth and not file:
            return None
        entries = (gradio_auth or "").split(",")
        if file:
            try:
                lines = Path(file).read_text(encoding="utf8").splitlines()
            except (OSError, ValueError):
                lines = []
            entries += [entry for line in lines for entry in line.split(",")]
        return cls(entry.strip() for entry in entries)

    def have(self, user: bytes, password: bytes) -> bool:
        """Every pair is compared, whatever came before: the time must not tell which names exist."""
        found = False
        for known_user, known_password in self._passwords.items():
            same_user = secrets.compare_digest(user, known_user)
            same_password = secrets.compare_digest(password, known_password)
            found |= same_user and same_password
        return found


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
