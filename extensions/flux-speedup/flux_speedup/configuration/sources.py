"""Where configuration comes from: command line, environment, saved settings, the user's file, config.json.

Before the WebUI has parsed its flags and loaded its options, all of it is read here by ourselves, read-only
and tolerantly: whatever cannot be read is one sentence, never an exception.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .config import KINDS, Source

OPTION_PREFIX = "flux_speedup_"
MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True)
class Sources:
    """All sources, highest precedence first, and what could not be read."""

    sources: tuple[Source, ...]
    problems: tuple[str, ...]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare our flags, so that the WebUI's own parsing accepts them.

    Raises:
        argparse.ArgumentError: another copy of the extension has declared them already.
    """
    group = parser.add_argument_group("flux-speedup")
    group.add_argument("--flux-speedup-off", action="store_true", help="turn flux-speedup off for this start")
    group.add_argument(
        "--flux-speedup-config", metavar="PATH", default=None, help="configuration file to use"
    )
    for key in KINDS:
        flag = "--flux-speedup-" + key.replace("_", "-")
        group.add_argument(flag, metavar="VALUE", default=None, help=argparse.SUPPRESS)


class _QuietParser(argparse.ArgumentParser):
    """argparse ends the process on a usage error; a door of an extension must not."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise ValueError(message)


def gather(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    shipped: Path,
    data_folder: Path | None,
    settings_file: Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> Sources:
    """Read every source. `settings` are the WebUI's options where they are loaded, else its file is read."""
    problems: list[str] = []
    flags = _flags([*argv, *_webui_arguments(argv, environ, problems)], problems)
    chosen = str(flags.pop("config", None) or environ.get("FLUX_SPEEDUP_CONFIG") or "")
    if flags.pop("off", False):
        flags["enabled"] = False
    environment = {
        key: environ["FLUX_SPEEDUP_" + key.upper()]
        for key in KINDS
        if "FLUX_SPEEDUP_" + key.upper() in environ
    }
    if settings is None:
        settings = _read_json(settings_file, problems, "the WebUI's settings") if settings_file else {}
    saved = {k[len(OPTION_PREFIX) :]: v for k, v in settings.items() if k.startswith(OPTION_PREFIX)}
    user_file = Path(chosen) if chosen else data_folder / "flux-speedup.json" if data_folder else None
    if chosen and user_file is not None and not user_file.is_file():
        problems.append(f"{user_file}: no such configuration file; the shipped one is used")
    user = _read_json(user_file, problems, "configuration") if user_file else {}
    return Sources(
        (
            Source("command line", flags),
            Source("environment", environment),
            Source("settings", saved),
            Source(str(user_file), user),
            Source("config.json", _read_json(shipped, problems, "configuration")),
        ),
        tuple(problems),
    )


def _webui_arguments(argv: Sequence[str], environ: Mapping[str, str], problems: list[str]) -> list[str]:
    """COMMANDLINE_ARGS, which some WebUIs append to sys.argv before our door and others after it."""
    try:
        words = shlex.split(environ.get("COMMANDLINE_ARGS", ""))
    except ValueError as error:
        problems.append(f"COMMANDLINE_ARGS cannot be split ({error}); it is ignored here")
        return []
    return [] if words and list(argv[-len(words) :]) == words else words


def _flags(words: Sequence[str], problems: list[str]) -> dict[str, object]:
    parser = _QuietParser(add_help=False, allow_abbrev=False)
    add_flags(parser)
    try:
        found, _others = parser.parse_known_args(list(words))
    except ValueError as error:
        problems.append(f"command line: {error}; the flags of flux-speedup are ignored")
        return {}
    prefix = "flux_speedup_"
    return {
        k[len(prefix) :]: v for k, v in vars(found).items() if k.startswith(prefix) and v not in (None, False)
    }


def _read_json(path: Path, problems: list[str], what: str) -> dict[str, object]:
    """The object in a JSON file; a missing file is an empty one."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            problems.append(f"{path}: over {MAX_FILE_BYTES} bytes, not read as {what}; it is ignored")
            return {}
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path}: cannot be read as {what} ({error}); it is ignored")
        return {}
    if not isinstance(found, dict):
        problems.append(
            f"{path}: holds {type(found).__name__}, not an object of keys and values; it is ignored"
        )
        return {}
    return found
