"""The engines that know where a sentence ends, and what must not come out of them."""

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


def test_offsets_are_characters_whatever_they_are_encoded_as() -> None:
    text = "Ça, é 𝄞 et 😀. Next one."
    assert boundaries(text) == [text.index("Next"), len(text)]


def test_an_ellipsis_ends_a_sentence_as_a_question_mark_does() -> None:
    assert boundaries("Well… Then he left.") == [6, 19]


@pytest.mark.parametrize("text", ["plan B\u00a0. Next", "plan B\u2003. Next", "B\u3000.\u00a0N"])
def test_the_white_space_at_which_sentencex_panics_is_not_shown_to_it(
    text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert boundaries(text)[-1] == len(text)
    assert "panicked" not in capfd.readouterr().err


def test_half_a_surrogate_pair_is_a_character_like_any_other() -> None:
    assert boundaries("One \ud83d. Next one.") == [7, 16]


def test_a_panic_finds_no_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def panic(language: str, text: str) -> list[str]:
        raise PanicException

    monkeypatch.setattr(sentence_segmenters, "segment", panic)
    assert boundaries("One. Two.") == []


def test_what_is_no_panic_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(language: str, text: str) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(sentence_segmenters, "segment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        boundaries("One. Two.")


@given(st.text(st.characters(exclude_categories=())), st.sampled_from(["en", "de", "zh", "xx"]))
def test_any_text_has_its_end_as_last_boundary(text: str, language: str) -> None:
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
def test_no_sentence_ends_with_what_the_lists_of_sentencex_lack(language: str, text: str) -> None:
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
def test_a_sentence_ends_with_what_is_no_abbreviation_there(language: str, text: str) -> None:
    assert boundaries(text, language) == [text.index(". ") + 2, len(text)]


@pytest.mark.parametrize("text", ["On Fri. N", "At 3 p.m. E", "Nel sec. X"])
def test_one_letter_of_a_word_that_may_join_ends_nothing(text: str) -> None:
    assert boundaries(text, "it" if "Nel" in text else "en") == [len(text)]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ru", "Это т. е. Иван."),  # with a space in it
        ("pl", "W 1410 r. Polacy wygrali."),  # no word that begins sentences
        ("pl", "Zob. rozdz. IV tam."),  # a Roman number
        ("da", "Den 5. Juni er det."),
        ("hu", "Az a 3. Fejezet."),
        ("hu", "Az IV. Béla volt."),
        ("cs", "To je 5. den."),
        ("de", "Das war Wilhelm II. König."),
    ],
)
def test_no_sentence_ends_with_a_word_of_its_table(language: str, text: str) -> None:
    assert boundaries(text, language) == [len(text)]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ru", "И т. д. Наполеон ушёл."),
        ("ru", "Это 10 см. Вес тут."),  # a unit after a number; see, otherwise
        ("pl", "Było to w 1410 r. Potem nic."),
        ("de", "Er heißt Max. Anna lacht."),
        ("de", "Wir treffen uns am 3. Dann reden wir."),
        ("cs", "Je jich 25. Petr odešel."),
        ("en", "We ran test E. Traffic was light."),
        ("nl", "Ik doe dat. Jan ook."),
    ],
)
def test_sentence_ends_with_the_same_words_before_others(language: str, text: str) -> None:
    cuts = [text.rindex(". ") + 2, len(text)]
    assert boundaries(text, language) == cuts


@pytest.mark.parametrize("path", sorted(TABLES.iterdir()), ids=lambda path: path.stem)
def test_table_names_its_sources_and_has_words_without_stops(path: Path) -> None:
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
def test_language_is_recognised_however_it_is_written(language: str) -> None:
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


def test_without_sentencex_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
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
        (["Hi.", "Ho.", "Hi."], [3, 7, 11]),  # found in turn, each after the one before
        (["Hi.", "HO.", "Hi."], [3]),
        ([], []),
    ],
)
def test_strings_become_the_offsets_where_they_end(strings: list[str], ends: list[int]) -> None:
    def split(text: str) -> Iterable[str]:
        return strings

    assert list(StringSegmenter(split).boundaries("Hi. Ho. Hi.")) == ends
