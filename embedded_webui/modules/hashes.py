"""sha256 of weight files, computed once while the WebUI runs."""
import hashlib
from pathlib import Path
from modules import shared

_known = {}

def calculate_sha256_real(filename):
    whole = hashlib.sha256()
    with Path(filename).open("rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()

def sha256_from_cache(filename, title, use_addnet_hash=False): return _known.get(title)

def sha256(filename, title, use_addnet_hash=False):
    if title not in _known and not shared.cmd_opts.no_hashing:
        _known[title] = calculate_sha256_real(filename)
    return _known.get(title)
