"""Our texts in other languages join the localisation that the user chose for the WebUI.

`modules.localization.localization_js` makes the script with the entries of the chosen localisation, once for every
page that is built. The page is translated in the browser, text node by text node: a key is a whole text node of
ours, without the white space around it. Our files are not in a folder `localizations`: the WebUI would list each as
a language choice of its own.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...patching.change import Change, Function

log = logging.getLogger("flux_speedup")
MODULE = "modules.localization"
FOLDER = Path(__file__).parents[2] / "languages"
LANGUAGES = ("ru", "zh")
START = "window.localization = "
RUSSIAN = {"ru", "rus", "russian", "русский"}
CHINESE = {"zh", "zhcn", "cn", "chs", "chinese", "hans", "中文", "简体", "简体中文", "中文简体"}
# Whoever reads these is not served by the other script.
TRADITIONAL = {"tw", "zhtw", "hk", "zhhk", "mo", "hant", "cht", "traditional"}
TRADITIONAL_SIGNS = ("繁", "正體")
WORD = re.compile(r"[a-z]+|[\u0400-\u04ff]+|[\u4e00-\u9fff]+")


def language(chosen: object) -> str | None:
    """Ours for the name of a localisation, such as "ru_RU" or "zh-Hans (Stable)"; None where there is none."""
    name = str(chosen).lower()
    words = set(WORD.findall(name))
    if words & RUSSIAN:
        return "ru"
    if words & TRADITIONAL or any(sign in name for sign in TRADITIONAL_SIGNS):
        return None
    return "zh" if words & CHINESE else None


def entries(of: str) -> dict[str, str]:
    """English text -> translation, for one of LANGUAGES."""
    found: dict[str, str] = json.loads((FOLDER / f"{of}.json").read_text(encoding="utf-8"))
    return found


def merged(script: str, ours: Mapping[str, str]) -> str:
    """The WebUI's script with our entries in it; an entry that is there already stays as it is.

    Raises:
        ValueError, TypeError: the script is not `window.localization = {...}`.
    """
    if not script.startswith(START):
        raise ValueError(f"it does not begin with {START!r}")
    theirs: dict[str, object] = json.loads(script.removeprefix(START))
    return START + json.dumps({**ours, **theirs})


def translated(script: str, chosen: object) -> str:
    """The WebUI's script for the localisation `chosen`, with ours where we have that language. As `merged`."""
    found = language(chosen)
    return script if found is None else merged(script, entries(found))


def changes() -> list[Change]:
    """The one function."""
    return [Function(MODULE, "localization_js", _wrap)]


def _wrap(original: Callable[..., Any]) -> Callable[..., Any]:
    def localization_js(current_localization_name: Any, *args: Any, **kwargs: Any) -> Any:
        script = original(current_localization_name, *args, **kwargs)
        try:
            return translated(script, current_localization_name)
        except Exception as error:
            log.warning(
                "localisation %s: our texts stay in English, this WebUI's script cannot be read (%s)",
                current_localization_name,
                error,
            )
            return script

    return localization_js
