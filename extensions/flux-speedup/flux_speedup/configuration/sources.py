"""Where configuration comes from: command line, environment, saved settings, the user's file, config.json.

Before the WebUI has parsed its flags and loaded its options, all of it is read here by ourselves, read-only
and tolerantly: whatever cannot be read is one sentence, never an exception.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..storage import json_file
from .config import Source
from .setting import Setting
from .settings import SETTINGS

OPTION_PREFIX = "flux_speedup_"
FLAG, VARIABLE = "--flux-speedup-", "FLUX_SPEEDUP_"
OFF, CONFIG = f"{FLAG}off", f"{FLAG}config"
OTHER_VARIABLES = frozenset({"CONFIG", "WEBUI", "REPOSITORY"})
"""Those that are no settings: the configuration file; what the launcher and the image builder read."""
SHIPPED = "config.json"
MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True)
class Sources:
    """All sources, highest precedence first, and what could not be read."""

    sources: tuple[Source, ...]
    problems: tuple[str, ...]


def add_flags(parser: argparse.ArgumentParser, words: Sequence[str] = ()) -> None:
    """Declare our flags, so that the WebUI's own parsing accepts them.

    A flag without its value, and one of `words` (a command line) that is ours by its beginning and unknown, must
    not stop the start either: the first means on, the second is declared as well; `gather` tells of both.

    Raises:
        argparse.ArgumentError: another copy of the extension has declared them already.
    """
    group = parser.add_argument_group("flux-speedup")
    helps = {OFF: "turn flux-speedup off for this start", CONFIG: "configuration file to use"}
    helps |= {flag(each): each.help.replace("%", "%%") for each in SETTINGS.values()}
    helps |= {each: argparse.SUPPRESS for each in misspelt(words)}
    for name, text in helps.items():
        group.add_argument(name, metavar="VALUE", nargs="?", const=True, default=None, help=text)


def flag(setting: Setting) -> str:
    """As it is written on the command line."""
    return FLAG + setting.key.replace("_", "-")


def misspelt(words: Sequence[str]) -> list[str]:
    """Flags among `words` that begin as ours do and are none."""
    known = {flag(each) for each in SETTINGS.values()} | {OFF, CONFIG}
    found = (word.partition("=")[0] for word in words if word.startswith(FLAG))
    return [each for each in dict.fromkeys(found) if each not in known]


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
    flags = _flags(command_line(argv, environ, problems), problems)
    path = flags.pop("config", None)
    if path is True:
        problems.append(f"command line: {CONFIG} needs the path of a file; it is ignored")
        path = None
    chosen = str(path or environ.get(VARIABLE + "CONFIG") or "")
    # Only what says that it does not, such as `=false`, leaves it on.
    if str(flags.pop("off", "no")).lower() not in ("no", "false", "0", "off"):
        flags["enabled"] = False
    environment = {
        name.removeprefix(VARIABLE).lower(): value
        for name, value in environ.items()
        if name.startswith(VARIABLE) and name.removeprefix(VARIABLE) not in OTHER_VARIABLES
    }
    if settings is None:
        settings = _read_json(settings_file, problems, "the WebUI's settings") if settings_file else {}
    saved = {k[len(OPTION_PREFIX) :]: v for k, v in settings.items() if k.startswith(OPTION_PREFIX)}
    user_file = Path(chosen) if chosen else data_folder / "flux-speedup.json" if data_folder else None
    user = _read_json(user_file, problems, "configuration", asked_for=bool(chosen)) if user_file else {}
    return Sources(
        (
            Source("command line", flags),
            Source("environment", environment),
            Source("settings", saved),
            Source(str(user_file), user),
            Source(SHIPPED, _read_json(shipped, problems, "configuration")),
        ),
        tuple(problems),
    )


def command_line(
    argv: Sequence[str], environ: Mapping[str, str], problems: list[str] | None = None
) -> list[str]:
    """All words, with COMMANDLINE_ARGS, which some WebUIs append to sys.argv before our door, others after it."""
    try:
        words = shlex.split(environ.get("COMMANDLINE_ARGS", ""))
    except ValueError as error:
        if problems is not None:
            problems.append(f"COMMANDLINE_ARGS cannot be split ({error}); it is ignored here")
        return list(argv)
    return [*argv] if words and list(argv[-len(words) :]) == words else [*argv, *words]


def _flags(words: Sequence[str], problems: list[str]) -> dict[str, object]:
    """Values by key; the misspelt ones too, which are told of as any unknown key is."""
    parser = _QuietParser(add_help=False, allow_abbrev=False)
    add_flags(parser, words)
    try:
        found, _others = parser.parse_known_args(list(words))
    except ValueError as error:
        problems.append(f"command line: {error}; the flags of flux-speedup are ignored")
        return {}
    prefix = "flux_speedup_"
    return {k[len(prefix) :]: v for k, v in vars(found).items() if k.startswith(prefix) and v is not None}


def _read_json(path: Path, problems: list[str], what: str, *, asked_for: bool = False) -> dict[str, object]:
    """The object in a JSON file; a missing file is an empty one, and a problem where somebody asked for it."""
    try:
        return json_file.read(path, MAX_FILE_BYTES)
    except FileNotFoundError:
        if asked_for:
            problems.append(f"{path}: no such configuration file; the shipped one is used")
    except (OSError, ValueError) as error:
        problems.append(f"{path}: cannot be read as {what} ({error}); it is ignored")
    return {}
