"""Calls back right after a named module was executed: at its import and at every reload."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import cast


class PostImportHook(importlib.abc.MetaPathFinder):
    """Watches imports by name. `imported(name)` runs on the importing thread, with the module complete."""

    def __init__(self, imported: Callable[[str], None]) -> None:
        self._imported = imported
        self._names: set[str] = set()
        self._searching = threading.local()

    def watch(self, name: str) -> None:
        """Call back for `name` from now on; modules that are imported already are the caller's business."""
        self._names.add(name)

    def install(self) -> None:
        """Become the first finder asked, once."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Leave the import system as it was."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Let the other finders answer, and wrap the loader they chose."""
        if fullname not in self._names or getattr(self._searching, "busy", False):
            return None
        self._searching.busy = True
        try:
            spec = self._ask_the_others(fullname, path, target)
        finally:
            self._searching.busy = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Notifying(spec.loader, self._imported)
        return spec

    def _ask_the_others(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> importlib.machinery.ModuleSpec | None:
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec = cast("importlib.machinery.ModuleSpec | None", find(fullname, path, target))
            if spec is not None:
                return spec
        return None


class _Notifying(importlib.abc.Loader):
    """Runs the real loader, hands the module back to it, then calls back."""

    def __init__(self, loader: importlib.abc.Loader, imported: Callable[[str], None]) -> None:
        self._loader = loader
        self._imported = imported

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module must look as if we had never been there: inspect and pickle read its loader.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._imported(module.__name__)


def is_ready(module: str) -> bool:
    """Imported and executed to its end: a module is in sys.modules from its first line on."""
    found = sys.modules.get(module)
    spec = getattr(found, "__spec__", None)
    return found is not None and not getattr(spec, "_initializing", False)
