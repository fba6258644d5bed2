"""Door 2: what install.py does before every start of the WebUI; nothing of it may fail the start.

Fetching missing weights, where the user asked for it, and the hash of the checkpoint that will be loaded first: a
process of its own begins with it here, many seconds before the WebUI itself could.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .configuration import config
from .configuration import sources as config_sources
from .local_models import at_start
from .local_models.places import data_folder
from .local_models.selected import Flags, is_hashed, selected
from .ram.system import psutil
from .storage.sidecar import Place, Sidecar, Stamp
from .weights.files import early_hashing
from .weights.files.hub_names import digest_in_name
from .weights.files.step_back import step_back

HASH = "hash"


def main(folder: Path, argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """`folder`: the extension's. `argv`: of install.py; with words it is the process that hashes."""
    if argv[1:2] == [HASH]:
        hash_one(*argv[2:])
        return
    try:
        begin_hash(folder, environ, _webui())
    except Exception as error:  # a courtesy: the WebUI hashes by itself
        sys.stderr.write(f"[flux-speedup] no hash is begun before the start ({error})\n")
    at_start.main(folder, environ)


def begin_hash(folder: Path, environ: Mapping[str, str], webui: Any) -> None:
    """Start the process, if the selected checkpoint needs one. `webui`: the process of the WebUI, of psutil."""
    data = data_folder(folder)
    if webui is None or data is None:
        return
    words = config_sources.command_line(webui.cmdline(), environ)
    flags = Flags.of(words, data, Path.cwd())
    gathered = config_sources.gather(
        words,
        environ,
        shipped=folder / "config.json",
        data_folder=data,
        settings_file=flags.settings_file,
    )
    wanted = config.load(gathered.sources).config
    found = selected(flags)
    if not (wanted.enabled and wanted.digest and flags.hashes) or found is None or "--exit" in words:
        return
    name, path = found[0], found[1].resolve()
    cache = data / "cache" / "flux-speedup"
    stamp = Stamp.of(path)
    known = stamp is None or Sidecar(cache / early_hashing.DIGESTS).get(path, stamp, Place.of(path))
    if known or digest_in_name(path) or is_hashed(name, data, environ):
        return
    command = [sys.executable, str(folder / "install.py"), HASH, str(path), str(cache)]
    early_hashing.start([*command, str(webui.pid), str(webui.create_time())])


def hash_one(path: str, cache: str, pid: str, since: str) -> None:
    """The process: until the hash is there, or the WebUI that it is for is gone."""

    def is_there() -> bool:
        processes = psutil()
        try:
            return bool(abs(processes.Process(int(pid)).create_time() - float(since)) < 1)
        except processes.Error:
            return False

    step_back()
    early_hashing.work(Path(path), Path(cache), is_there)


def _webui() -> Any:
    """The process that runs install.py, shells and launchers in between left out; None where nobody can say."""
    processes = psutil()
    for process in processes.Process().parents() if processes is not None else ():
        if not any("install.py" in word for word in process.cmdline()):
            return process if process.name().lower().startswith("python") else None
    return None
