"""Texts in other languages, from files of the folder `localizations` beside the user's data."""
import json
from pathlib import Path
from modules.paths_internal import data_path

localizations = {}

def list_localizations(dirname): localizations.update((x.stem, x) for x in Path(dirname).glob("*.json"))

def localization_js(current_localization_name):
    """A script with the texts; the page gets it when it is built."""
    list_localizations(Path(data_path, "localizations"))
    chosen = localizations.get(current_localization_name)
    return f"window.localization = {json.dumps(json.loads(chosen.read_text('utf8')) if chosen else {})}"
