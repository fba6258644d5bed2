"""Memory, as pictures."""

from __future__ import annotations

from dataclasses import replace

from flux_speedup.facts.view import MemoryUse
from flux_speedup.ui import memory
from tests.fake_view import MEMORY
from tests.page import Tags


def test_vram_is_one_bar_with_everything_in_it() -> None:
    read = Tags(memory.vram(MEMORY))
    parts = read.classed("fsu-part")
    shares = [round(float(part["width"].rstrip("%"))) for part in parts]
    assert shares == [28, 12, 0, 1, 3, 2]
    assert "36.9 GB of 84.9 GB in use" in read.text
    for expected in (
        "transformer23.8 GB28%",
        "ring that weights stream through512 MB1%",
        "everything else on the card2.6 GB3%",
        "kept free for computing2.0 GB2%",
        "not in use46.0 GB54%",
        "transformer 23.8 GB stay on the card, 9.6 GB stream at each pass through a ring of 512 MB registered",
    ):
        assert expected in read.text


def test_models_that_claim_more_than_is_used_stay_within_the_bar() -> None:
    over = replace(MEMORY, vram_used=10**9, vram_by_model=(("a", 60 * 10**9), ("b", 60 * 10**9)))
    parts = Tags(memory.vram(over)).classed("fsu-part")
    assert sum(float(part["width"].rstrip("%")) for part in parts) <= 100.01
    assert "everything else" not in memory.vram(over)


def test_ram_kinds_share_one_scale() -> None:
    text = Tags(memory.ram(MEMORY)).text
    for expected in ("216.0 GB in all", "weight files in the page cache50.8 GB", "pinned by us268 MB"):
        assert expected in text
    page = memory.ram(MemoryUse(page_cache=50, ram_total=200))
    assert "width:25.0%" in page
    assert "pinned" not in page


def test_what_is_not_known_is_said() -> None:
    text = Tags(memory.memory_card(MemoryUse())).text
    assert "no card here" in text
    assert "RAM: not known" in text


def test_a_device_whose_whole_cannot_be_read_still_shows_its_models() -> None:
    read = Tags(memory.memory_card(MemoryUse((("transformer", 24_000_000_000), ("vae", 0)))))
    assert "24.0 GB of models; the whole of this device cannot be read" in read.text
    assert "transformer24.0 GB" in read.text
    assert "no card here" not in read.text
