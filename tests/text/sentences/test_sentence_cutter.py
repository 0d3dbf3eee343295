"""The sentence cutter alone, without Rx and without time."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import accumulate

import pytest
from cuts import every_way
from hypothesis import example, given
from hypothesis import strategies as st
from sentence_texts import (
    ABBREVIATIONS,
    CHINESE_AND_JAPANESE,
    ENGLISH,
    FORMULAS,
    GERMAN,
    MARKDOWN,
    NEWLINES,
    ROMANCE,
    Case,
)

from rxmistral.text.sentences.cutter import SentenceCutter
from rxmistral.text.sentences.segmenters import default_segmenter

ORDINARY = [*ENGLISH, *MARKDOWN, *NEWLINES, *GERMAN, *ROMANCE, *CHINESE_AND_JAPANESE]
EXACT = [*ABBREVIATIONS, *FORMULAS]
ALL = [*ORDINARY, *EXACT]


def cutter(language: str = "en", max_chars: int | None = None) -> SentenceCutter:
    return SentenceCutter(default_segmenter(language), max_chars)


def cut(pieces: Iterable[str], language: str = "en", max_chars: int | None = None) -> list[str]:
    machine = cutter(language, max_chars)
    return [*(sentence for piece in pieces for sentence in machine.feed(piece)), *machine.close()]


def deltas(text: str) -> Iterator[str]:
    """The text in pieces of 3 to 5 characters, with the same cuts each time."""
    lengths, start = random.Random(text), 0
    while start < len(text):
        end = start + lengths.randint(3, 5)
        yield text[start:end]
        start = end


# --- accuracy --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cases", "share"),
    [
        (ENGLISH, 0.92),
        (MARKDOWN, 0.95),
        (NEWLINES, 1.0),
        (GERMAN, 0.88),
        (ROMANCE, 0.90),
        (CHINESE_AND_JAPANESE, 0.90),
    ],
    ids=["English", "Markdown", "newlines", "German", "Romance", "Chinese and Japanese"],
)
def test_sentences_match_the_annotated_texts(cases: list[Case], share: float) -> None:
    right = sum(cut(deltas(case.text), case.language) == case.sentences for case in cases)
    assert right / len(cases) >= share


@pytest.mark.parametrize("case", EXACT, ids=lambda case: f"{case.language} {case.text[:20]}")
def test_sentences_are_exact_for_every_cut(case: Case) -> None:
    ways = every_way(case.text) if len(case.text) < 60 else [[case.text], list(case.text)]
    assert all(cut(pieces, case.language) == case.sentences for pieces in ways)


@pytest.mark.parametrize("language", [*sorted({case.language for case in ALL} - {"el"}), "xx"])
@pytest.mark.parametrize("mark", [";", "\u037e"])
def test_semicolon_ends_nothing_in_other_languages(language: str, mark: str) -> None:
    assert len(cut([f"Xo xa xi{mark} Xe xu xa{mark} xo."], language)) == 1


@pytest.mark.parametrize("language", ["el", "EL", "el-GR", "el_GR"])
def test_greek_question_mark_waits_for_the_next_word(language: str) -> None:
    machine = cutter(language)
    assert list(machine.feed("Τι κάνεις; ")) == []
    assert list(machine.feed("Ε")) == ["Τι κάνεις; "]


def test_engine_can_add_stops() -> None:
    class EveryStop:
        stops = "^"

        def boundaries(self, text: str) -> list[int]:
            return [len(text) - 1]

    machine = SentenceCutter(EveryStop())
    assert [*machine.feed("One^ Two x^Y ^ Three"), *machine.close()] == [
        "One^ ",
        "Two x^Y ^ ",
        "Three",
    ]


def test_few_cuts_are_wrong() -> None:
    wrong = cuts = 0
    for case in ALL:
        ends = set(accumulate(map(len, cut(deltas(case.text), case.language))))
        wrong += len(ends - set(accumulate(map(len, case.sentences))))
        cuts += len(ends)
    assert wrong / cuts <= 0.005


def test_sentence_is_emitted_a_few_characters_after_its_end() -> None:
    late = sorted(each for case in ORDINARY for each in lateness(case))
    assert late[len(late) // 2] <= 4
    assert late[len(late) * 95 // 100] <= 8


def lateness(case: Case) -> Iterator[int]:
    """Characters from the last visible one of a sentence to its emission."""
    machine, received, start = cutter(case.language), 0, 0
    for delta in deltas(case.text):
        received += len(delta)
        for sentence in machine.feed(delta):
            yield received - start - len(sentence.rstrip())
            start += len(sentence)


# --- the rules, one by one -------------------------------------------------------


@pytest.mark.parametrize(
    "marked",
    [
        # lines
        "A title\n\n¦A line\n¦Another",
        "Indented\n¦  this is",
        "Ends with\r\n¦a carriage return",
        "1. One. ¦Two.\n¦- Three\n¦a) Four\n¦1.\nFive",
        "- **1.** One\n¦---\n¦Two",
        # code and tables
        "So:\n¦```py\na. B\n\n# C. D\n```\n¦Then. ¦Next",
        "```\n```` \n¦It is. ¦So",
        "````\n```\nA. B\n````\n¦C",
        "~~~ `a`\nA. B\n~~~\n¦C",
        "```code``` in line. ¦Next",
        "``a. B`` in line. ¦Next",
        "A `a. B` in line. ¦Next",
        "| a. B | c! D |\n¦|---|",
        # which sentence characters around the cut belong to
        "“One.” ¦“Two.” ¦*Three.* ¦**Four.** ¦_Five._ ¦(Six.) ¦Seven.",
        "Great! 😀 ¦Next. 🎉🎉 ¦Wow.",
        "✅ Done. ¦❌ Not done.",
        "It is so.[1][2] ¦Next. [3] ¦Last.",
        # displayed formulas
        "Look:\n\n¦$$\nE = mc. \\\\\nF = ma. \n$$\n\n¦Then go. ¦Now",
        "Look: \\[\nE = a. B\n\\]\n¦Then go. ¦Now",
        "Look: $$E = a. B\nF. G$$ is it. ¦Then",
        "$$\nNever closed. B\n\n¦It was. ¦Then",
        "He paid $$$\n¦Then he left. ¦Now",
        # two questions to the segmenter
        "At 5 p.m. Mr. Fox came.",
        "At 5 p.m. ¦He came.",
        "Plan B. ¦It is good.",
        # quotation marks
        'He said, "Go. ¦Now." ¦She went. ¦"Ah," he said.',
        '"Stop!" he cried. ¦"Why?" she asked.',
        # stops that end nothing
        "ASP.NET and example.com/a.html?b.C are.",
        "Fish. & Chips are here.",
        "The max. speed, the min. height.",
        "So... maybe not… perhaps.",
        "It does 9 km/h. ¦That is slow.",
        "He (Mr. Fox) left.",
        "A cow, a pig (etc.), and so on.",
        "Use `e.g.` and `a?` and ``b. `C`` and `.`. ¦Then",
        "It is one (it was. It is two!) of them. ¦(It was. ¦It is.) ¦Then",
        "“What?” Tom Fox asked. ¦“What?” ¦Tom went. ¦He said, “What?” ¦Tom asked.",
        "“你好！”他说。¦“你好！”¦他走了。¦看《谁？》了。¦３．５和（好。）你",
        "Step 1. One. ¦**Step 2.** ¦Two. ¦1.2. Three. ¦• Four. ¦Five",
        "“So.” — Fox\n¦¿Y tú? —dijo ella. ¦Oh! no. ¦So [^note] it is.[^note] ¦Yes",
        # casual
        "it was late. ¦i went home. ¦lol",
        # written without white space
        "你好!¦今天好吗?¦好.",
        "他说：“好。”¦“走。”¦**对。**¦『はい。』と言った。",
    ],
)
def test_text_is_cut_at_the_marks(marked: str) -> None:
    assert cut(deltas(marked.replace("¦", ""))) == marked.split("¦")


def test_sentence_is_emitted_when_the_next_one_starts() -> None:
    machine = cutter()
    assert list(machine.feed("It is late. ")) == []
    assert list(machine.feed("G")) == ["It is late. "]


def test_line_is_emitted_when_the_next_one_starts() -> None:
    machine = cutter()
    assert list(machine.feed("A title\n\n")) == []
    assert list(machine.feed("T")) == ["A title\n\n"]


def test_number_before_a_stop_waits_for_the_next_word() -> None:
    machine = cutter("de")
    assert list(machine.feed("Am 3. Oktobe")) == []
    assert list(machine.feed("r. Es war 1990. Danac")) == ["Am 3. Oktober. "]
    assert list(machine.feed("h ")) == ["Es war 1990. "]


def test_abbreviation_at_the_end_is_judged_by_all_text() -> None:
    assert cut(["At 5 p.m. He"]) == ["At 5 p.m. ", "He"]


# --- any text --------------------------------------------------------------------

ANYTHING = st.text(st.characters(exclude_categories=()), max_size=60)
MARKS = ".!?…\"'“”„«»()[]*_`~|#-\n\r\t \u00a0。！「」『』（）1aBé你は😀\u200d\ud83d\ude00"
TOKENS = ["```", "\n```\n", "~~~", "e.g. ", "Mr. ", "p.m. ", "3.5", "[1]", "\n1. ", "The ", "is "]
SPOKEN = ["?” ", "Dr. ", "Tom ", "asked ", "？”", "她说", "《", "》", "`?` ", "[^a", "Step 1. "]
MORE = ["$", "$$", "$\n", "\\(", "\\[", "\\]", "; ", "т. ", "е. ", "5. ", "Nov. ", "z. B. ", "& "]
RUNS = ["one. ", "Two. ", " " * 50, "word " * 30, "a" * 90, "." * 60]
DIFFICULT = st.lists(st.sampled_from([*MARKS, *TOKENS, *SPOKEN, *MORE, *RUNS]), max_size=40).map(
    "".join
)
TEXTS = ANYTHING | DIFFICULT
LANGUAGES = st.sampled_from(["en", "de", "fr", "zh", "el", "ru", "hu", "xx"])
LIMITS = st.none() | st.integers(1, 120)


@st.composite
def texts_in_pieces(draw: st.DrawFn) -> list[str]:
    text = draw(TEXTS)
    ends = sorted(draw(st.lists(st.integers(0, len(text)), max_size=30)))
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


@given(texts_in_pieces(), LANGUAGES, LIMITS)
@example(["plan B\u00a0. ", "Next"], "en", None)
@example(["a" * 700, " b" * 300, ". C"], "en", None)
def test_sentences_join_to_the_text_for_any_cuts(
    pieces: list[str], language: str, max_chars: int | None
) -> None:
    text = "".join(pieces)
    whole = cut([text], language, max_chars)
    assert "".join(whole) == text
    assert cut(pieces, language, max_chars) == whole
    assert cut(text, language, max_chars) == whole


@given(texts_in_pieces(), LIMITS)
def test_flush_loses_no_text(pieces: list[str], max_chars: int | None) -> None:
    machine, got = cutter("en", max_chars), list[str]()
    for piece in pieces:
        got += [*machine.feed(piece), *machine.flush()]
    got += machine.close()
    assert "".join(got) == "".join(pieces)
    assert all(not sentence.isspace() for sentence in got[:-1] if max_chars is None)


@given(texts_in_pieces(), st.integers(1, 120))
def test_no_item_is_longer_than_max_chars(pieces: list[str], max_chars: int) -> None:
    assert all(len(sentence) <= max_chars for sentence in cut(pieces, "en", max_chars))


@pytest.mark.parametrize(
    "text",
    [
        "word " * 400 + "And 5 p.m. He",
        "(“a " * 400 + ". Next one",
        "- " * 900 + "x. Next one. \n```\n" + "code. Code\n" * 100 + "```\nEnd. Yes",
        "Hi." + " " * 900 + "Next." + "." * 900 + " Last",
        "e.g. " * 300,
        "One " + "wo.rd " * 400 + "max. speed",
        "no capital 5. " * 100,
    ],
)
def test_long_text_does_not_depend_on_cuts(text: str) -> None:
    whole = cut([text])
    assert "".join(whole) == text
    for size in (1, 2, 3, 7, 100, 499):
        assert cut([text[i : i + size] for i in range(0, len(text), size)]) == whole


# --- max_chars, flush ------------------------------------------------------------


def test_max_chars_cuts_at_white_space() -> None:
    assert cut(["one two three four"], max_chars=8) == ["one two ", "three ", "four"]


def test_max_chars_moves_a_following_space_to_the_next_item() -> None:
    assert cut(["one two three"], max_chars=7) == ["one two", " three"]


def test_max_chars_cuts_a_longer_word() -> None:
    assert cut(["abcdefgh ij"], max_chars=5) == ["abcde", "fgh ", "ij"]


def test_max_chars_cuts_code_after_a_line() -> None:
    text = "```\na b\nc d e f\n```\nEnd"
    assert cut([text], max_chars=12) == ["```\na b\n", "c d e f\n```\n", "End"]


def test_max_chars_does_not_change_shorter_sentences() -> None:
    assert cut(["One. Two. Three."], max_chars=10) == ["One. ", "Two. ", "Three."]


def test_flushed_sentence_ends_at_the_same_place() -> None:
    machine = cutter()
    assert list(machine.feed("It is late.")) == []
    assert list(machine.flush()) == ["It is late."]
    assert list(machine.feed(" We go. N")) == [" We go. "]
    assert list(machine.close()) == ["N"]


def test_flushed_code_stays_code() -> None:
    machine = cutter()
    assert [*machine.feed("``"), *machine.flush()] == ["``"]
    assert [*machine.feed("`\na. B\n"), *machine.flush()] == ["`\na. B\n"]
    assert [*machine.feed("c. D\n```\nSo. Y"), *machine.close()] == ["c. D\n```\n", "So. ", "Y"]


def test_flush_keeps_white_space() -> None:
    machine = cutter()
    assert [*machine.feed("One. "), *machine.flush(), *machine.feed("  "), *machine.flush()] == [
        "One. "
    ]
    assert list(machine.close()) == ["  "]


# --- the view of the segmenter ---------------------------------------------------


class RecordingSegmenter:
    """Finds no boundary, and records the texts."""

    def __init__(self) -> None:
        self.views: list[str] = []

    def boundaries(self, text: str) -> list[int]:
        self.views.append(text)
        return []


def views(text: str) -> list[str]:
    engine = RecordingSegmenter()
    machine = SentenceCutter(engine)
    for delta in deltas(text):
        machine.feed(delta)
    machine.close()
    return engine.views


def test_segmenter_is_asked_at_first_character_and_word_end() -> None:
    assert views("One day. Then it") == ["One day. T", "One day. Then "]


def test_segmenter_is_asked_once_if_first_character_is_unclear() -> None:
    assert views("In 1990. Then it") == ["In 1990. Then "]
    assert views("One day. 5 of") == ["One day. 5 "]


def test_segmenter_is_not_asked_in_code_tables_and_words() -> None:
    assert views("```\na. B\n```\n| a. B |\na.b.C 3.5 `x. Y` z") == []


def test_segmenter_sees_no_half_pair_of_quotation_marks() -> None:
    assert views('He: "Go. Now it') == ["He:  Go. N", "He:  Go. Now "]
    assert views("(He, a. Fox ran") == [" He, a. Fox "]


def views_when_each_stop_is_a_boundary(text: str) -> list[str]:
    class EveryStop(RecordingSegmenter):
        def boundaries(self, text: str) -> list[int]:
            self.views.append(text)
            return [len(text) - 1]

    engine = EveryStop()
    SentenceCutter(engine).feed(text)
    return engine.views


def test_segmenter_sees_quote_opened_by_previous_sentence() -> None:
    seen = views_when_each_stop_is_a_boundary('He: "Go on. Now go." Then it')
    assert seen == ["He:  Go on. N", '"Now go." T']


def test_quotation_mark_stays_open_until_the_line_ends() -> None:
    assert views_when_each_stop_is_a_boundary('He: "Go on. Now\nWe "go. Then it')[-1] == "We  go. T"


def test_segmenter_sees_no_more_than_a_window() -> None:
    assert max(map(len, views("word " * 1000 + "e.g. " * 100))) < 500
    assert max(map(len, views("Hi" + "." * 1000 + "\u00a0" * 1000 + "Next one"))) < 500


def test_segmenter_is_asked_a_bounded_number_of_times() -> None:
    assert len(views("e.g. " * 200)) <= 2 * 200
