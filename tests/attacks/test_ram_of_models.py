"""In whichever form a model is, its weights take no RAM; Forge alone copies GGUF files whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.test_weights_on_forge import run_in_forge
from tests.integration.forge import has_bitsandbytes

ALONE = {"bf16": 0.0, "fp8": 0.0, "q8": 1.0, "q4k": 1.0, "nf4": 0.0}


@pytest.mark.forge
@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").is_file(), reason="Linux tells what no file stands behind"
)
def test_weights_take_no_ram(forge_dir: Path) -> None:
    forms = [form for form in ALONE if form != "nf4" or has_bitsandbytes(forge_dir)]
    for form, seen in run_in_forge(forge_dir, "tests.attacks.ram_of_models", *forms).items():
        assert seen["bytes"] > 500e6
        assert seen["alone"] == pytest.approx(ALONE[form], abs=0.05), (form, seen)
        assert abs(seen["ours"]) < 0.05, (form, seen)
