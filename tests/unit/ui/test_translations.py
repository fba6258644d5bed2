"""Our texts in Russian and Chinese: all of them, nothing else, and only for whom they are meant."""

from __future__ import annotations

import json
import re

import pytest

from flux_speedup.hosts.common import translations
from flux_speedup.hosts.common.translations import LANGUAGES, START, entries, language, merged, translated
from tests.fake_view import FakeView
from tests.unit.ui import texts

# Text nodes that stay as they are: figures with their words, and names.
AS_THEY_ARE = re.compile(
    r"""
      \(?[\d.,]+\ ?(%|s|GB|MB|bytes|GB/s)?\)?            # a figure
    | .*\d(\ s|\ GB|\ MB|\ kB|\ bytes|\ %|%|:\d\d)\b.*         # a sentence with a figure and its unit in it
    | .*\d\d?%.*
    | (\d+\ (pending|applied|skipped|failed|put\ back)(,\ )?)+
    | (bus|disk)\ [\d.]+                                # the name of a line in a picture
    | \d+\ \w+|(the\ last\ \d+|Where\ the\ time\ of\ request\ \d+\ went).*
    | large\ tier:\ .*|at\ most\ .*|\d.*\ GiB\ of\ .*    # an item's figures
    | It\ would\ add:.*|Disabled\ in\ the\ WebUI\ by\ .*|The\ WebUI's\ own\ list\ cannot\ .*
    | As\ of\ .*
    | ,\ \d+\ %
    | GB|GB/s|RAM|VRAM|VAE|ADetailer|Flux\ Speedup|expandable_segments:True
    """,
    re.VERBOSE,
)
# Words that would be translated in the WebUI and other extensions too, where they may mean something else.
AMBIGUOUS = {"on", "off", "keep", "large", "standard", "Models"}


def foreign() -> set[str]:
    """Texts that a view answers with: names, reasons, states of the host."""
    given: set[str] = {"nothing", "gone", "none", "frozen", "x", "an image is being made", "no space left"}
    for view in texts.views():
        for part in (view.status(), view.kept, view.made, view.used, view.built, view.begun, view.weights):
            given |= set(texts.told_by(part))
        given |= {file.name for file in view.made_packed.files}
        for more in (view.lines, view.measured, view.pruned, view.saved):
            given |= set(texts.told_by(more))
    given |= {f"{event.source} → {event.target}" for event in FakeView().kept}
    given |= {view.drop(None) for view in [FakeView()]} | {FakeView().disable_left_out()}
    return given


@pytest.fixture(scope="module")
def shown() -> set[str]:
    """Every text node with letters, with its white space."""
    nodes = {*texts.rendered(), *texts.item_texts()}
    return {node for node in nodes if re.search(r"[A-Za-z]", node)}


def test_every_text_is_translated_or_a_figure_or_a_name(shown: set[str]) -> None:
    known = set(entries("ru"))
    names = foreign() | AMBIGUOUS
    left = {node.strip() for node in shown} - known - names
    assert sorted(text for text in left if not AS_THEY_ARE.fullmatch(text)) == []


def test_every_entry_is_a_text_of_ours(shown: set[str]) -> None:
    assert sorted(set(entries("ru")) - {node.strip() for node in shown}) == []


def test_what_may_mean_something_else_is_left_to_the_user() -> None:
    assert not set(entries("ru")) & (AMBIGUOUS | {"load", "move", "unload", "other", "free", "before", "No"})


@pytest.mark.parametrize("of", LANGUAGES)
def test_white_space_beside_a_text_stays(shown: set[str], of: str) -> None:
    # The WebUI's script puts the translation in place of the whole node.
    found = entries(of)
    for node in shown:
        if (translation := found.get(node.strip())) is not None:
            assert not node[0].isspace() or translation[0].isspace(), node
            assert not node[-1].isspace() or translation[-1].isspace(), node


def test_both_languages_have_the_same_keys_in_the_same_order_and_their_own_letters() -> None:
    russian, chinese = entries("ru"), entries("zh")
    assert list(russian) == list(chinese)
    names = {key for key in russian if russian[key].strip() == key}
    assert names <= {"(IP-Adapter, reference, revision, StyleAlign)"}
    for key in russian:
        assert key == key.strip()
        assert re.search("[\u4e00-\u9fff]", chinese[key]) or "IP-Adapter" in key, key
        assert re.search("[\u0400-\u04ff]", russian[key]) or "IP-Adapter" in key, key
        assert not re.search("[a-z][\u0400-\u04ff]|[\u0400-\u04ff][a-z]", russian[key], re.IGNORECASE), key
        assert "<" not in russian[key] + chinese[key]


@pytest.mark.parametrize("of", LANGUAGES)
def test_a_key_stands_once_in_its_file(of: str) -> None:
    def once(pairs: list[tuple[str, str]]) -> dict[str, str]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    file = translations.FOLDER / f"{of}.json"
    assert json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=once)


def test_the_webui_does_not_find_our_files() -> None:
    extension = translations.FOLDER.parents[1]
    assert (extension / "metadata.ini").is_file()
    assert not (extension / "localizations").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ru", "ru"),
        ("ru_RU", "ru"),
        ("Russian", "ru"),
        ("russian-forge", "ru"),
        ("ru-RU v1.10", "ru"),
        ("zh", "zh"),
        ("zh_CN", "zh"),
        ("zh-Hans (Stable)", "zh"),
        ("zh-Hans (Testing)", "zh"),
        ("chinese", "zh"),
        ("chinese-all-0313", "zh"),
        ("simplified chinese", "zh"),
        ("简体中文", "zh"),
        ("简体中文 (Stable)", "zh"),
        ("zh_TW", None),
        ("zh-Hant (Stable)", None),
        ("zh_HK", None),
        ("chinese traditional", None),
        ("繁體中文", None),
        ("正體中文", None),
        ("None", None),
        (None, None),
        ("", None),
        ("de_DE", None),
        ("ja_JP", None),
        ("truth", None),
        ("cnet", None),
        ("rumantsch", None),
    ],
)
def test_the_language_is_decided_by_the_name(name: object, expected: str | None) -> None:
    assert language(name) == expected


@pytest.mark.parametrize("name", ["None", "de_DE", "zh_TW"])
def test_without_our_language_the_script_is_the_webuis_to_the_byte(name: str) -> None:
    for script in (START + '{"b":  1}', "anything else"):
        assert translated(script, name) is script


def test_the_users_own_entries_win() -> None:
    script = translated(START + '{"Refresh": "своё", "Generate": "Создать"}', "ru_RU")
    found = json.loads(script.removeprefix(START))
    assert found == {**entries("ru"), "Refresh": "своё", "Generate": "Создать"}
    assert script.isascii()


@pytest.mark.parametrize("script", ["", "window.other = {}", START + "[]", START + "{"])
def test_a_script_of_another_form_is_refused(script: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        merged(script, {})
