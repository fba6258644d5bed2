"""What is written down of the table of settings: the shipped `config.json` and `docs/settings.md`. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from .config import SECTIONS
from .setting import EVERYWHERE, Setting, shown
from .settings import SETTINGS, Config

BEGIN, END = "<!-- settings -->", "<!-- /settings -->"
MANY = 5


def config_json(before: Mapping[str, object]) -> str:
    """The shipped file: every default, and the sections that `before` (the file as it is) holds."""
    values = {**asdict(Config()), **{key: before[key] for key in SECTIONS if key in before}}
    lines = [f"  {json.dumps(key)}: {_block(value)}" for key, value in values.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def page(before: str) -> str:
    """The page with the table between its two marks made anew. Raises ValueError where a mark is missing."""
    begin, end = before.index(BEGIN) + len(BEGIN), before.index(END)
    return before[:begin] + "\n" + table() + before[end:]


def table() -> str:
    """All settings by group, in Markdown."""
    lines: list[str] = []
    for group in dict.fromkeys(each.group for each in SETTINGS.values()):
        rows = [_row(each) for each in SETTINGS.values() if each.group == group]
        lines += [f"### {group}", "", "| key | default | values | meaning |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines) + "\n"


def _row(setting: Setting) -> str:
    default = setting.default
    many = isinstance(default, tuple) and len(default) > MANY
    words = f"{len(default)} names" if many and isinstance(default, tuple) else shown(default)
    meaning = "; ".join(filter(None, (setting.help, setting.more)))
    notes = [] if setting.hosts == EVERYWHERE else [" and ".join(setting.hosts)]
    notes += [f'Settings: "{setting.label}"'] if setting.label else []
    notes += ["needs a restart"] if setting.restart else []
    told = f" ({'; '.join(notes)})" if notes else ""
    return f"| `{setting.key}` | {words} | {setting.kind.allowed} | {meaning}{told} |"


def _block(value: object) -> str:
    if isinstance(value, (tuple, list)) and value:
        return "[\n" + ",\n".join(f"    {json.dumps(each)}" for each in value) + "\n  ]"
    if isinstance(value, dict):
        return _catalog(value)
    return json.dumps(value)


def _catalog(section: Mapping[str, object]) -> str:
    """One line an entry, as somebody would write it."""
    lines = []
    for key, value in section.items():
        if isinstance(value, list):
            entries = ",\n".join(f"      {json.dumps(each)}" for each in value)
            lines.append(f"    {json.dumps(key)}: [\n{entries}\n    ]")
        else:
            lines.append(f"    {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n  }"
