"""Our texts join the localisation that the user chose for the WebUI.

`modules.localization.localization_js` makes the script with the entries of the chosen localisation; the WebUI
asks for it once for every page that it builds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ...patching.change import Change, Function

log = logging.getLogger("flux_speedup")

MODULE = "modules.localization"
Translate = Callable[[str, object], str]
"""The WebUI's script and the name of the chosen localisation -> the script to use."""


def changes(translate: Translate) -> list[Change]:
    """The one function."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def localization_js(current_localization_name: Any, *args: Any, **kwargs: Any) -> Any:
            script = original(current_localization_name, *args, **kwargs)
            try:
                return translate(script, current_localization_name)
            except Exception as error:
                log.warning(
                    "localisation %s: our texts stay in English, this WebUI's script cannot be read (%s)",
                    current_localization_name,
                    error,
                )
                return script

        return localization_js

    return [Function(MODULE, "localization_js", make)]
