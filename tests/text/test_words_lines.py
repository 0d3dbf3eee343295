"""Words, lines and paragraphs: joined, they are the text, for any cuts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import reactivex
from cuts import cut, every_way, through
from hypothesis import given
from hypothesis import strategies as st

from rxmistral.rx.state_machine import StateMachine
from rxmistral.text.words_lines import LineEndSplitter, paragraphs, text_lines, words

TEXTS = st.one_of(st.text(), st.text("ab. \n\r\t\xa0\u2028", max_size=30))


def emitted_by(operator: Callable[[], Any], pieces: list[str]) -> list[str]:
    got: list[str] = []
    reactivex.from_iterable(pieces).pipe(operator()).subscribe(got.append)
    return got


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello  world!", ["Hello  ", "world!"]),
        ("  a b ", ["  a ", "b "]),
        ("a\nb\tc\u3000d", ["a\n", "b\t", "c\u3000", "d"]),
        ("  ", ["  "]),
        ("今日は。\n明日", ["今日は。\n", "明日"]),
        ("", []),
    ],
)
def test_words(text: str, pieces: list[str]) -> None:
    for way in every_way(text):
        assert emitted_by(words, way) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a\nb", ["a\n", "b"]),
        ("a\r\nb\r\n", ["a\r\n", "b\r\n"]),
        ("a\rb\r", ["a\r", "b\r"]),
        ("\n\n\r\r\n", ["\n", "\n", "\r", "\r\n"]),
        ("a\u2028b\x0bc\x85d", ["a\u2028b\x0bc\x85d"]),
        ("", []),
    ],
)
def test_lines(text: str, pieces: list[str]) -> None:
    for way in every_way(text):
        assert emitted_by(text_lines, way) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a\nb\n\nc", ["a\nb\n\n", "c"]),
        ("a\n \t\n\n  c", ["a\n \t\n\n", "  c"]),
        ("a\r\nb", ["a\r\nb"]),
        ("a\r\n\r\nb", ["a\r\n\r\n", "b"]),
        ("a\r\rb", ["a\r\r", "b"]),
        ("\n\na\n\n", ["\n\na\n\n"]),
        ("a\n\xa0\nb", ["a\n\xa0\n", "b"]),
        ("a\n\n    b\n\n    c", ["a\n\n", "    b\n\n", "    c"]),
        ("\n", ["\n"]),
        ("", []),
    ],
)
def test_paragraphs(text: str, pieces: list[str]) -> None:
    for way in every_way(text):
        assert emitted_by(paragraphs, way) == pieces


@pytest.mark.parametrize("operator", [words, text_lines, paragraphs])
@given(pieces=cut(TEXTS))
def test_items_join_to_the_text_for_any_cuts(
    operator: Callable[[], Any], pieces: list[str]
) -> None:
    text = "".join(pieces)
    items = emitted_by(operator, pieces)
    assert "".join(items) == text
    assert all(items)
    assert items == emitted_by(operator, [text])


@given(cut(TEXTS))
def test_words_equal_those_of_split(pieces: list[str]) -> None:
    items = [word.strip() for word in emitted_by(words, pieces)]
    assert items == ("".join(pieces).split() or items[:1])


@given(cut(TEXTS))
def test_line_has_one_line_end_at_its_end(pieces: list[str]) -> None:
    """As in `str.splitlines`, but for three line ends only."""
    text = "".join(pieces)
    whole = re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)
    assert emitted_by(text_lines, pieces) == [line for line in whole if line]


@given(cut(TEXTS))
def test_paragraph_is_visible_without_leading_blank_line(
    pieces: list[str],
) -> None:
    first, *others = emitted_by(paragraphs, pieces) or [""]
    assert all(re.match(r"[^\S\r\n]*\S", paragraph) for paragraph in others)
    for paragraph in (first, *others):
        assert not re.search(
            r"\S\s*?(\r\n|\n|\r(?!\n))[^\S\r\n]*(\r\n|\n|\r(?!\n))\s*\S", paragraph
        )


@pytest.mark.parametrize(
    ("operator", "pieces", "emitted"),
    [
        (words, ["a", " ", "b"], [[], [], ["a "]]),
        (text_lines, ["a", "\n", "b\r", "\n", "c\r", "d"], [[], ["a\n"], [], ["b\r\n"], [], ["c\r"]]),
        (paragraphs, ["a\n", "\n", " ", "b"], [[], [], [], ["a\n\n"]]),
    ],
)  # fmt: skip
def test_item_is_emitted_as_soon_as_it_is_certain(
    operator: Callable[[], Any], pieces: list[str], emitted: list[list[str]]
) -> None:
    source: reactivex.Subject[str] = reactivex.Subject()
    got: list[str] = []
    source.pipe(operator()).subscribe(got.append)
    for piece, expected in zip(pieces, emitted, strict=True):
        source.on_next(piece)
        assert got == expected
        got.clear()


def test_line_end_cut_in_two_is_one_part() -> None:
    ends: StateMachine[str, str] = LineEndSplitter()
    assert through(ends, ["a\r", "\nb"]) == ["a", "\r\n", "b"]
