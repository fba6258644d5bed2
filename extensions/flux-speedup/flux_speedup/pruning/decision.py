"""What is left out of this WebUI, what is kept and why. Pure.

From the strongest to the weakest: LoRA and we ourselves stay; `keep` and a group's "keep"; what something that
stays loaded requires or refers to; a group's "leave out"; what the user's defaults, settings, card and weights
say; the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from . import uses
from .catalog import BY_STEM, KEEP, LEAVE_OUT, NEVER, Entry, entry
from .surroundings import Folder, Surroundings, Wishes, listed, names

# Other scripts look it up by name while they are imported.
LOOKED_UP = ("xyz_grid",)


@dataclass(frozen=True)
class Decision:
    """The outcome. left_out: stems; folders: paths of the extensions all of whose scripts are left out.

    kept: stem -> why, for what is on the list and loaded all the same. unmatched: names of the configuration
    that mean no script of this WebUI. partly: paths of extensions of which some scripts are left out.
    disabled: stems of extensions that our button added to the WebUI's own list; held_back: those of them that are
    needed now, and why.
    """

    left_out: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()
    partly: frozenset[str] = frozenset()
    disabled: frozenset[str] = frozenset()
    held_back: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    upscalers: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def entries(self) -> tuple[Entry, ...]:
        """What is known of everything left out."""
        return tuple(entry(stem) for stem in sorted(self.left_out | self.disabled))


def decide(here: Surroundings, wishes: Wishes) -> Decision:
    """Take the list, and everything off it again that somebody uses."""
    kept: dict[str, str] = {}
    wanted: set[str] = set()
    for stem in _candidates(here, wishes):
        why = _asked_for(stem, wishes) or _mixed_folder(stem, here, wishes)
        if why:
            kept[stem] = why
        else:
            wanted.add(stem)
    forced = {stem for stem in wanted if wishes.groups.get(entry(stem).group) == LEAVE_OUT}
    for stem in sorted(wanted - forced):
        why = uses.reason(entry(stem), here)
        if why:
            kept[stem] = why
    _keep_together(wanted, kept, forced)
    # What was kept on the way may itself refer to something that is still to be left out.
    while found := _needed(here, wanted - kept.keys()):
        kept.update(found)
        _keep_together(wanted, kept, forced)
    left_out = frozenset(wanted - kept.keys())
    disabled = [s for f in here.folders if not f.enabled and f.name in here.disabled_by_us for s in f.scripts]
    held_back = {s: why for s in disabled if (why := _asked_for(s, wishes) or uses.reason(entry(s), here))}
    whole = [folder for folder in here.folders if _is_whole(folder, left_out)]
    some = [folder for folder in here.folders if folder.enabled and set(folder.scripts) & left_out]
    return Decision(
        left_out,
        frozenset(folder.path for folder in whole),
        frozenset(folder.path for folder in some if folder not in whole),
        frozenset(disabled),
        held_back,
        kept,
        _unmatched(here, wishes),
        here.upscalers,
    )


def _candidates(here: Surroundings, wishes: Wishes) -> list[str]:
    loaded = [*here.core, *(stem for f in here.folders if f.enabled for stem in f.scripts)]
    return [
        stem
        for stem in dict.fromkeys(loaded)
        if listed(stem, wishes.left_out) or wishes.groups.get(entry(stem).group) == LEAVE_OUT
    ]


def _asked_for(stem: str, wishes: Wishes) -> str:
    if stem in NEVER:
        return "it always stays"
    pattern = listed(stem, wishes.keep)
    if pattern:
        return f"keep names it ({pattern})"
    return "its group is kept" if wishes.groups.get(entry(stem).group) == KEEP else ""


def _mixed_folder(stem: str, here: Surroundings, wishes: Wishes) -> str:
    """An extension that the user installed is taken as a whole: its scripts may import one another."""
    for folder in here.folders:
        if folder.builtin or not folder.enabled or stem not in folder.scripts:
            continue
        others = [other for other in folder.scripts if not listed(other, wishes.left_out)]
        if others and wishes.groups.get(entry(stem).group) != LEAVE_OUT:
            return f"{folder.name} has other scripts"
    return ""


def _keep_together(wanted: set[str], kept: dict[str, str], forced: set[str]) -> None:
    for _ in range(2):
        for stem in sorted(wanted - kept.keys()):
            parts = [other for other in kept if entry(other).part_of == stem]
            whole = entry(stem).part_of
            if parts and stem not in forced:
                kept[stem] = f"{parts[0]} is of no use without it"
            elif whole in BY_STEM and whole in kept and stem not in forced:
                kept[stem] = f"it goes with {whole}"


def _needed(here: Surroundings, leaving: set[str]) -> dict[str, str]:
    """Stem -> who of those that stay requires it or refers to it."""
    leaving_folders = [folder for folder in here.folders if _is_whole(folder, frozenset(leaving))]
    words = _words(here, leaving, leaving_folders)
    staying = [folder for folder in here.folders if folder.enabled and folder not in leaving_folders]
    found: dict[str, str] = {}
    for folder in staying:
        for name in folder.requires & words.keys():
            found.update(dict.fromkeys(words[name], f"{folder.name} requires it"))
    mentions = here.mentions(frozenset(folder.path for folder in staying))
    spoken = frozenset(word for word in words if _can_be_spoken(word, here, leaving_folders))
    for word, who in mentions(spoken).items():
        for stem in words[word] & leaving:
            found.setdefault(stem, f"{who} refers to it")
    return found


def _words(here: Surroundings, leaving: set[str], folders: list[Folder]) -> dict[str, set[str]]:
    """Every name by which what is leaving can be required or referred to -> the stems it means."""
    words: dict[str, set[str]] = {}
    for stem in leaving & set(here.core):
        words.setdefault(f"{stem}.py", set()).add(stem)
    for folder in folders:
        stems = set(folder.scripts)
        prefix = f"builtin/{folder.name}" if folder.builtin else folder.name
        for name in (folder.name.lower(), *folder.packages):
            words.setdefault(name, set()).update(stems)
        for stem in stems:
            words.setdefault(f"{prefix}/{stem}.py".lower(), set()).add(stem)
    for stem in leaving & set(LOOKED_UP):
        words.setdefault(stem, set()).add(stem)
    return words


def _can_be_spoken(word: str, here: Surroundings, folders: list[Folder]) -> bool:
    """Folder names, packages and what is looked up by name; a mere file name says nothing."""
    known = {name for folder in folders for name in (folder.name.lower(), *folder.packages)}
    return word in LOOKED_UP or word in known


def _is_whole(folder: Folder, left_out: frozenset[str]) -> bool:
    return folder.enabled and bool(folder.scripts) and set(folder.scripts) <= left_out


def _unmatched(here: Surroundings, wishes: Wishes) -> tuple[str, ...]:
    stems = here.stems()
    patterns = dict.fromkeys((*wishes.left_out, *wishes.keep))
    return tuple(p for p in patterns if not any(names(p, stem) for stem in stems))
