"""Composition root: the only file that sees every room. One function per door."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from .configuration import sources as config_sources
from .log import set_up_log
from .running import Running

FOLDER = Path(__file__).resolve().parent.parent
log = logging.getLogger("flux_speedup")
_running: Running | None = None
_stood_down: set[Path] = set()


def preload(parser: argparse.ArgumentParser, folder: Path) -> None:
    """Door 1: flags, configuration, allocator, and every change that must be made before a model exists."""
    set_up_log()
    if not _is_ours(folder):
        return
    try:
        config_sources.add_flags(parser, config_sources.command_line(sys.argv, os.environ))
    except argparse.ArgumentError as error:
        log.warning("%s: stands down, another copy has registered its flags (%s)", folder, error)
        _stood_down.add(FOLDER)
        return
    _start().prepare()


def register(folder: Path) -> None:
    """Door 3: runs at start and again at every "Reload UI", which has dropped all callbacks."""
    set_up_log()
    if not _is_ours(folder) or FOLDER in _stood_down:
        return
    running = _start()
    running.prepare()
    running.register()


def _is_ours(folder: Path) -> bool:
    """Whether the door that called belongs to this copy; the first copy in a process is the one that works."""
    folder = Path(folder).resolve()
    if folder == FOLDER:
        return True
    if folder not in _stood_down:
        _stood_down.add(folder)
        log.warning(
            "%s: stands down, flux-speedup already runs from %s; remove one of the two", folder, FOLDER
        )
    return False


def _start() -> Running:
    global _running
    if _running is None:
        _running = Running(FOLDER, sys.argv, os.environ)
    return _running
