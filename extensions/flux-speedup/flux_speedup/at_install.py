"""Door 2: what install.py does before every start of the WebUI; nothing of it may fail the start.

Fetching missing weights, where the user asked for it, and what the first image will wait for: a process of its own
reads the files of the selected model into RAM and begins with its hash, many seconds before the WebUI itself could.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .configuration import config
from .configuration import sources as config_sources
from .local_models import at_start
from .local_models.places import data_folder
from .local_models.selected import Flags, is_hashed, others_of, selected
from .ram.system import psutil
from .storage.sidecar import Place, Sidecar, Stamp
from .weights.files import early_hashing
from .weights.files.hub_names import digest_in_name
from .weights.files.pagecache import is_cold
from .weights.files.readahead import Outcome, ReadAhead, in_order
from .weights.files.step_back import step_back

BEGIN = "begin"
_LOOK_S = 1.0


def main(folder: Path, argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """`folder`: the extension's. `argv`: of install.py; with words it is the process that reads and hashes."""
    if argv[1:2] == [BEGIN]:
        work(*argv[2:])
        return
    try:
        begin(folder, environ, _webui())
    except Exception as error:  # a courtesy: the WebUI reads and hashes by itself
        sys.stderr.write(f"[flux-speedup] nothing is read or hashed before the start ({error})\n")
    at_start.main(folder, environ)


def begin(folder: Path, environ: Mapping[str, str], webui: Any) -> None:
    """Start the process, if there is something to do. `webui`: the process of the WebUI, of psutil."""
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
    if not wanted.enabled or found is None or "--exit" in words:
        return
    name, path = found
    cache = data / "cache" / "flux-speedup"
    hashed = wanted.digest and flags.hashes and not _is_known(name, path.resolve(), cache, data, environ)
    # A packed file may be what is read in its place.
    files = in_order(path, others_of(flags)) if wanted.read_ahead and not wanted.packed else []
    cold = [str(each) for each in files if each.is_file() and is_cold(each)]
    if hashed or cold:
        command = [
            sys.executable,
            str(folder / "install.py"),
            BEGIN,
            str(webui.pid),
            str(webui.create_time()),
        ]
        early_hashing.start([*command, str(cache), str(path.resolve()) if hashed else "", *cold])


def work(pid: str, since: str, cache: str, hashed: str, *cold: str) -> None:
    """The process: until all is read and hashed, or the WebUI that it is for is gone."""

    def is_there() -> bool:
        processes = psutil()
        try:
            return bool(abs(processes.Process(int(pid)).create_time() - float(since)) < 1)
        except processes.Error:
            return False

    step_back()
    hashing = threading.Thread(target=early_hashing.work, args=(Path(hashed), Path(cache), is_there))

    def hash_now() -> None:
        if hashing.ident is None:
            hashing.start()

    def hash_if(path: Path) -> None:
        """Hashing follows the reading; before that it would read other bytes."""
        if hashed and path.resolve() == Path(hashed):
            hash_now()

    def ended(outcome: Outcome) -> None:
        hash_if(outcome.path)

    files = [Path(each) for each in cold]
    if hashed and not any(each.resolve() == Path(hashed) for each in files):
        hash_now()
    _read(ReadAhead(files, is_cold, begins=hash_if, ended=ended), is_there)
    if hashing.ident is not None:
        hashing.join()


def _read(reading: ReadAhead, is_there: Callable[[], bool]) -> None:
    reading.start()
    while not reading.wait(_LOOK_S):
        if not is_there():
            reading.stop()


def _is_known(name: str, path: Path, cache: Path, data: Path, environ: Mapping[str, str]) -> bool:
    """Whether a checkpoint needs no hash: somebody has it already. `path`: its real one."""
    stamp = Stamp.of(path)
    known = stamp is None or Sidecar(cache / early_hashing.DIGESTS).get(path, stamp, Place.of(path))
    return bool(known or digest_in_name(path) or is_hashed(name, data, environ))


def _webui() -> Any:
    """The process that runs install.py, shells and launchers in between left out; None where nobody can say."""
    processes = psutil()
    for process in processes.Process().parents() if processes is not None else ():
        if not any("install.py" in word for word in process.cmdline()):
            return process if process.name().lower().startswith("python") else None
    return None
