"""The hash of a LoRA: its first use does not wait for it, the text that names it does."""

from __future__ import annotations

import logging
import secrets
import sys
import threading
from pathlib import Path
from typing import Any

from ....patching.change import ChangeError, Function, Undo, apply_all, in_reverse
from ....weights.files.file_digests import FileDigests
from .attribute import watch
from .here import Here
from .waiting import waiting

KEY = "Lora hashes"
MODULE = "extra_networks_lora"
log = logging.getLogger("flux_speedup")


class Loras:
    """LoRAs whose hash is still to come; safe from any thread. `never` as for checkpoints."""

    def __init__(self, digests: FileDigests, never: bool, here: Here) -> None:
        self._digests = digests
        self._never = never
        self._here = here
        self._lock = threading.RLock()
        self._pending: dict[int, tuple[Any, str]] = {}
        self._told: set[str] = set()
        self._read: Any = None

    def begin(self) -> Undo:
        """Both modules of the host's LoRA extension are imported now."""
        kind = getattr(sys.modules.get("network"), "NetworkOnDisk", None)
        if kind is None:
            raise ChangeError("network has no NetworkOnDisk; this WebUI keeps its own behaviour")
        functions = apply_all(
            [
                Function("network", "NetworkOnDisk.read_hash", self._wrap_read_hash),
                Function(MODULE, "ExtraNetworkLora.activate", self._wrap_activate),
            ]
        )
        undo = in_reverse(
            [functions, watch(kind, "hash", self._read_whole), watch(kind, "shorthash", self._read_short)]
        )

        def end() -> None:
            for network, _ in list(self._pending.values()):
                self._settle(network)
            undo()

        return end

    def short_hash(self, network: Any) -> str:
        """That of a LoRA, waited for; "" where there is none."""
        self._settle(network)
        found: str = vars(network).get("shorthash") or ""
        if not found and id(network) in self._pending:
            self._tell(network.filename)
        return found

    def _wrap_read_hash(self, original: Any) -> Any:
        self._read = original

        def read_hash(network: Any) -> Any:
            if self._here.settling or not self._here.activating or not self._is_missing(network):
                return original(network)
            self._digests.begin(network.filename)
            with self._lock:
                self._pending.setdefault(id(network), (network, secrets.token_hex(16)))
            return None

        return read_hash

    def _wrap_activate(self, original: Any) -> Any:
        def activate(extra_network: Any, p: Any, params_list: Any) -> Any:
            # Outside a request nobody would know when a text is due.
            self._here.activating += 1 if self._here.frame is not None else 0
            try:
                done = original(extra_network, p, params_list)
            finally:
                self._here.activating = max(0, self._here.activating - 1)
            self._stand_in(p)
            return done

        return activate

    def _stand_in(self, p: Any) -> None:
        """The host has written our tokens for hashes: what resolves them takes their place."""
        said = p.extra_generation_params
        text = said.get(KEY)
        if isinstance(text, str):
            tokens = {token: network for network, token in self._pending.values() if token in text}
            if tokens:
                said[KEY] = LoraHashes(text, tokens, self)

    def text_token(self, hashes: LoraHashes) -> str | None:
        """What stands for them in a text that gets them later."""
        frame = self._here.frame
        if frame is None or not frame.with_tokens:
            return None
        return frame.token(KEY, hashes.text)

    def _settle(self, network: Any) -> None:
        if id(network) not in self._pending or (self._never and self._is_missing(network)):
            return
        with waiting(network.filename):
            if self._is_missing(network):
                self._digests.wait(network.filename)
            with self._lock:
                if id(network) in self._pending:
                    self._apply(network)

    def _apply(self, network: Any) -> None:
        self._here.settling = True
        try:
            self._read(network)
        except Exception as error:  # an image is there by now: it must not be lost
            log.warning("%s: no hash (%s); images go without it", network.filename, error)
        finally:
            self._here.settling = False
        del self._pending[id(network)]

    def _read_whole(self, network: Any, held: Any) -> Any:
        if self._here.settling or self._here.activating or id(network) not in self._pending:
            return held
        self._settle(network)
        return vars(network).get("hash", held)

    def _read_short(self, network: Any, held: Any) -> Any:
        pending = self._pending.get(id(network))
        if self._here.settling or pending is None:
            return held
        return pending[1] if self._here.activating else self.short_hash(network)

    def _is_missing(self, network: Any) -> bool:
        """Whether the host would have to read the whole file now."""
        from modules import hashes, shared

        if vars(network).get("hash") or shared.cmd_opts.no_hashing or not Path(network.filename).is_file():
            return False
        title = "lora/" + network.name
        if (
            hashes.sha256_from_cache(network.filename, title, use_addnet_hash=network.is_safetensors)
            is not None
        ):
            return False
        return self._digests.known(network.filename) is None

    def _tell(self, file: str) -> None:
        if file not in self._told:
            self._told.add(file)
            log.info("%s: its hash is not there yet; images go without it (hash_wait = never)", file)


class LoraHashes:
    """The value of "Lora hashes" while some are still to come; the host calls what can be called for a text."""

    def __init__(self, template: str, tokens: dict[str, Any], loras: Loras) -> None:
        self._template = template
        self._tokens = tokens
        self._loras = loras

    def __deepcopy__(self, _: Any) -> LoraHashes:
        return self

    def __call__(self, p: Any = None, **_: Any) -> str | None:
        token = self._loras.text_token(self)
        if token is not None:
            return token
        told: dict[str, str] = getattr(p, "lora_hashes", None) or {}
        for name, said in list(told.items()):
            if said in self._tokens:
                told[name] = self._loras.short_hash(self._tokens[said])
        return self.text()

    def text(self) -> str | None:
        """What the host would have written; None where not one is there."""
        written = []
        for pair in self._template.split(", "):
            name, _, said = pair.partition(": ")
            found = self._loras.short_hash(self._tokens[said]) if said in self._tokens else said
            if found:
                written.append(f"{name}: {found}")
        return ", ".join(written) or None
