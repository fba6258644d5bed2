"""What is left out, in sentences: for the log, the tab, Settings and the Extensions tab. Pure."""

from __future__ import annotations

from collections import Counter

from .catalog import ENTRIES, GROUPS
from .decision import Decision
from .requests import SETTINGS

MOST = 40
FEW = 8
NAMED = 3
_KNOWN = frozenset(entry.stem for entry in ENTRIES)


def summary(decision: Decision) -> str:
    """One line: how many, what they are to users, and where to bring them back."""
    count = len(decision.left_out)
    if not count:
        parts = ["nothing is left out"]
    else:
        noun = "script is" if count == 1 else "scripts are"
        parts = [f"{count} {noun} not loaded ({groups(decision)}); {SETTINGS} brings them back"]
    if decision.kept:
        parts.append("kept: " + _few([f"{stem} ({why})" for stem, why in sorted(decision.kept.items())]))
    if decision.held_back:
        needed = _few([f"{stem} ({why})" for stem, why in sorted(decision.held_back.items())])
        parts.append(f"disabled in the WebUI by our button though needed: {needed}; undo it in {SETTINGS}")
    # Names that nobody knows: somebody's own, and perhaps misspelt. Each WebUI lacks some of the others.
    unknown = sorted(set(decision.unmatched) - _KNOWN)
    if unknown:
        parts.append("not in this WebUI: " + _few(unknown, FEW))
    return "; ".join(parts)


def count(decision: Decision) -> str:
    """How many, in words; "" for none."""
    found = len(decision.left_out)
    if not found:
        return ""
    return f"{found} {'script is' if found == 1 else 'scripts are'} not loaded, by Flux Speedup."


def selectable(decision: Decision) -> str:
    """Those that the page's "Script" list would have, the best known first; "" for none."""
    missing = [each for each in ENTRIES if each.group == "group_batch" and each.stem in decision.left_out]
    missing.sort(key=lambda each: each.stem != "xyz_grid")
    names = [each.shown for each in missing]
    if not names:
        return ""
    few = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return f"{few}: not loaded, by Flux Speedup."


def groups(decision: Decision) -> str:
    """The groups something is left out of, by the names users see."""
    counted = Counter(entry.group for entry in decision.entries())
    shown = [name for key, name in GROUPS.items() if counted[key]]
    return ", ".join([*shown, *(["others"] if counted[""] else [])])


def status(whole: bool) -> str:
    """The Extensions tab's line for an extension; plain text."""
    part = "not loaded" if whole else "partly not loaded"
    return f"{part} by Flux Speedup ({SETTINGS})"


def _few(texts: list[str], most: int = MOST) -> str:
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")
