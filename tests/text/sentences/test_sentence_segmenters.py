"""Segmenters, and the full stops that their views disambiguate."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxmistral.text.sentences import segmenters as sentence_segmenters
from rxmistral.text.sentences.segmenters import SpanSegmenter, StringSegmenter, default_segmenter

TABLES = Path(sentence_segmenters.__file__).with_name("abbreviations")


def boundaries(text: str, language: str = "en") -> list[int]:
    return list(default_segmenter(language).boundaries(text))


def test_offsets_are_characters_not_bytes() -> None:
    text = "Ça, é 𝄞 et 😀. Next one."
    assert boundaries(text) == [text.index("Next"), len(text)]


def test_ellipsis_ends_a_sentence_like_a_question_mark() -> None:
    assert boundaries("Well… Then he left.") == [6, 19]


@pytest.mark.parametrize("text", ["plan B\u00a0. Next", "plan B\u2003. Next", "B\u3000.\u00a0N"])
def test_white_space_does_not_make_sentencex_panic(
    text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert boundaries(text)[-1] == len(text)
    assert "panicked" not in capfd.readouterr().err


def test_half_a_surrogate_pair_is_one_character() -> None:
    assert boundaries("One \ud83d. Next one.") == [7, 16]


def test_panic_of_sentencex_finds_no_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def panic(language: str, text: str) -> list[str]:
        raise PanicException

    monkeypatch.setattr(sentence_segmenters, "segment", panic)
    assert boundaries("One. Two.") == []


def test_other_exceptions_of_sentencex_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(language: str, text: str) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(sentence_segmenters, "segment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        boundaries("One. Two.")


@given(st.text(st.characters(exclude_categories=())), st.sampled_from(["en", "de", "zh", "xx"]))
def test_end_of_text_is_the_last_boundary(text: str, language: str) -> None:
    found = boundaries(text, language)
    assert found == sorted(found)
    assert found[-1:] == ([len(text)] if text else [])


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Das war im 19. Jahrhundert."),
        ("de", "Es ist der 2. Versuch."),
        ("de-AT", "Siehe Abb. Drei."),
        ("fr", "Avec M. Dupont."),
        ("it", "Vedi pag. Tre."),
        ("en", "Approx. 40 came."),
        ("en", "On Fri. Nov. the third."),
        ("en", "At 3 p.m. Eastern time."),
        ("en", "Add 1 tsp. baking soda."),
        ("en", "Ask Dr. Who."),
        ("en", "J.-P. Sartre wrote."),
        ("it", "Nel sec. XIX era."),
    ],
)
def test_abbreviation_unknown_to_sentencex_ends_nothing(language: str, text: str) -> None:
    assert boundaries(text, language) == [len(text)]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "No. I won't."),
        ("en", "Bob told me. Tom knew."),
        ("en", "In 5 sec. Enjoy!"),
        ("en", "Run main.rs. Wait."),
        ("en", "It does 9 km/h. Wow."),
        ("de", "Es dauert 2 Std. Dann ist es gut."),
        ("fr", "Des fruits, etc. Tout est bon."),
        ("es", "Todo está bien. Juan también."),
        ("it", "Ho un PC. Il mio."),
    ],
)
def test_ordinary_word_ends_a_sentence(language: str, text: str) -> None:
    assert boundaries(text, language) == [text.index(". ") + 2, len(text)]


@pytest.mark.parametrize("text", ["On Fri. N", "At 3 p.m. E", "Nel sec. X"])
def test_one_letter_of_a_possible_continuation_ends_nothing(text: str) -> None:
    assert boundaries(text, "it" if "Nel" in text else "en") == [len(text)]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ru", "Это т. е. Иван."),  # with a space inside
        ("pl", "W 1410 r. Polacy wygrali."),  # not a word that starts sentences
        ("pl", "Zob. rozdz. IV tam."),  # a Roman numeral
        ("da", "Den 5. Juni er det."),
        ("hu", "Az a 3. Fejezet."),
        ("hu", "Az IV. Béla volt."),
        ("cs", "To je 5. den."),
        ("de", "Das war Wilhelm II. König."),
    ],
)
def test_word_of_the_table_ends_nothing(language: str, text: str) -> None:
    assert boundaries(text, language) == [len(text)]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ru", "И т. д. Наполеон ушёл."),
        ("ru", "Это 10 см. Вес тут."),  # a unit after a number, otherwise "see"
        ("pl", "Było to w 1410 r. Potem nic."),
        ("de", "Er heißt Max. Anna lacht."),
        ("de", "Wir treffen uns am 3. Dann reden wir."),
        ("cs", "Je jich 25. Petr odešel."),
        ("en", "We ran test E. Traffic was light."),
        ("nl", "Ik doe dat. Jan ook."),
    ],
)
def test_word_of_the_table_ends_a_sentence_before_others(language: str, text: str) -> None:
    cuts = [text.rindex(". ") + 2, len(text)]
    assert boundaries(text, language) == cuts


@pytest.mark.parametrize("path", sorted(TABLES.iterdir()), ids=lambda path: path.stem)
def test_table_has_sources_and_words_without_stops(path: Path) -> None:
    table = tomllib.loads(path.read_text("utf-8"))
    assert all(len(source) > 10 for source in table.pop("sources"))
    words = [
        word
        for key, value in table.items()
        if key not in ("stops", "complete")
        for word in value.split()
    ]
    assert [word for word in words if word != word.strip(".,")] == []


@pytest.mark.parametrize("language", ["xx", "", "../de", "de.toml", "\0", "中"])
def test_language_without_a_table_is_left_to_sentencex(language: str) -> None:
    assert boundaries("One bsp. Two.", language) == [9, 13]


@pytest.mark.parametrize("language", ["PT", "pt-BR", "pt_BR"])
def test_language_tag_may_have_case_and_region(language: str) -> None:
    assert boundaries("Veja a pág. Dois.", language) == [17]


def test_no_table_is_read_before_it_is_needed() -> None:
    code = """
import pkgutil, sys
read, get_data = [], pkgutil.get_data
pkgutil.get_data = lambda *name: read.append(name) or get_data(*name)
import rxmistral
rxmistral.sentences
from rxmistral.text.sentences import segmenters
assert not read, read
rxmistral.sentences("de")
assert len(read) == 1, read
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_sentencex_raises_with_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_segmenters, "segment", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"pip install 'rxmistral\[sentences\]'"
    ) as raised:
        default_segmenter("en")
    assert raised.value.name == "sentencex"


# --- adapters --------------------------------------------------------------------


def test_spans_become_their_ends() -> None:
    segmenter = SpanSegmenter(lambda text: [(0, 3), (4, len(text))])
    assert list(segmenter.boundaries("Hi. Ho.")) == [3, 7]


@pytest.mark.parametrize(
    ("strings", "ends"),
    [
        (["Hi. ", "Ho. ", "Hi."], [4, 8, 11]),
        (["Hi.", "Ho.", "Hi."], [3, 7, 11]),  # each is searched after the previous one
        (["Hi.", "HO.", "Hi."], [3]),
        ([], []),
    ],
)
def test_strings_become_their_end_offsets(strings: list[str], ends: list[int]) -> None:
    def split(text: str) -> Iterable[str]:
        return strings

    assert list(StringSegmenter(split).boundaries("Hi. Ho. Hi.")) == ends
