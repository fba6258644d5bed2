"""Forge's sha256 of checkpoints and LoRAs: computed once in a file's life, where possible in the background.

The host's own cache stays in charge. Only where it is empty, what it would compute comes from us: kept, or
from the background pass over the file, which is waited for (metadata must have it), or computed by the host.
It is the host that applies it, on the thread of the request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...patching.change import Call, Change, Function
from ...weights.files.file_digests import FileDigests


def changes(digests: FileDigests, function: str = "calculate_sha256_real") -> list[Change]:
    """The function that computes; `sha256` around it asks the host's cache first, and fills it.

    Passes in the background end with the undo.
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def calculate_sha256(filename: Any) -> Any:
            return digests.of(filename, lambda: original(filename))

        return calculate_sha256

    return [Call(lambda: digests.stop), Function("modules.hashes", function, make)]
