"""Tags in a text: thinking and text, wherever the pieces were cut."""

from __future__ import annotations

import re

import pytest
from cuts import cut, every_way, through
from hypothesis import given
from hypothesis import strategies as st

from rxmistral import TextChunk, ThinkChunk
from rxmistral.completions.think_tags import TagSplitter, think_tags

TEXTS = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "th", "ink>", "/", "a", "<<think>", "\n"]),
    max_size=12,
).map("".join)


def joined(chunks: list[TextChunk | ThinkChunk]) -> list[tuple[str, str]]:
    """Returns chunks as (kind, text), with neighbours of one kind merged."""
    whole: list[tuple[str, str]] = []
    for chunk in chunks:
        text = chunk.text if isinstance(chunk, TextChunk) else chunk.thinking[0].text
        assert text
        if whole and whole[-1][0] == chunk.type:
            text = whole.pop()[1] + text
        whole.append((chunk.type, text))
    return whole


def split(text: str, open: str = "<think>", close: str = "</think>") -> list[tuple[str, str]]:
    """Returns what one regular expression on the whole text finds."""
    o, c = re.escape(open), re.escape(close)
    found = re.findall(rf"(.*?)(?:{o}(.*?)(?:{c}|\Z)|\Z)", text, re.S)
    parts = [(kind, t) for pair in found for kind, t in zip(("text", "thinking"), pair)]  # noqa: B905
    whole: list[tuple[str, str]] = []
    for kind, part in parts:
        if part and whole and whole[-1][0] == kind:
            whole[-1] = (kind, whole[-1][1] + part)
        elif part:
            whole.append((kind, part))
    return whole


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>hm</think>Yes", [("thinking", "hm"), ("text", "Yes")]),
        ("a<think>b", [("text", "a"), ("thinking", "b")]),
        ("a</think>b", [("text", "a</think>b")]),
        ("<think>a<think>b</think>c", [("thinking", "a<think>b"), ("text", "c")]),
        ("<think></think>a", [("text", "a")]),
        ("<<think>a", [("text", "<"), ("thinking", "a")]),
        ("<thin", [("text", "<thin")]),
        ("<think>a</thi", [("thinking", "a</thi")]),
        ("<think>\na\n</think>\n\nb", [("thinking", "\na\n"), ("text", "\n\nb")]),
        ("", []),
    ],
)
def test_text_is_split_the_same_way_for_all_cuts(text: str, parts: list[tuple[str, str]]) -> None:
    for pieces in every_way(text):
        assert joined(through(TagSplitter("<think>", "</think>"), pieces)) == parts


@given(cut(TEXTS))
def test_splitter_agrees_with_a_regular_expression(pieces: list[str]) -> None:
    chunks = through(TagSplitter("<think>", "</think>"), pieces)
    assert joined(chunks) == split("".join(pieces))


@given(cut(st.text("ab", max_size=30)), st.text("ab", min_size=1, max_size=5), st.text("ab", min_size=1, max_size=5))  # fmt: skip
def test_splitter_agrees_with_a_regular_expression_for_any_tags(
    pieces: list[str], open: str, close: str
) -> None:
    """Includes tags that contain their own beginning, and equal tags."""
    chunks = through(TagSplitter(open, close), pieces)
    assert joined(chunks) == split("".join(pieces), open, close)


@given(cut(TEXTS))
def test_only_a_prefix_of_the_next_tag_is_buffered(pieces: list[str]) -> None:
    splitter = TagSplitter("<think>", "</think>")
    text, chunks = "", []
    for piece in pieces:
        text += piece
        chunks += splitter.feed(piece)
        next_tag, last = _after_last_tag(text)
        buffered = max(n for n in range(len(next_tag)) if last.endswith(next_tag[:n]))
        shown = sum(len(part) for _, part in joined(chunks))
        assert sum(len(part) for _, part in split(text)) - shown == buffered


def _after_last_tag(text: str) -> tuple[str, str]:
    """Returns the next tag at the end of a text, and the text since the last tag."""
    next_tag, other = "<think>", "</think>"
    while next_tag in text:
        text = text.partition(next_tag)[2]
        next_tag, other = other, next_tag
    return next_tag, text


def test_begins_open_starts_inside_of_thinking() -> None:
    for pieces in every_way("hm</think>Yes<think>b"):
        splitter = TagSplitter("<think>", "</think>", begins_open=True)
        parts = [("thinking", "hm"), ("text", "Yes"), ("thinking", "b")]
        assert joined(through(splitter, pieces)) == parts


def test_second_close_returns_nothing() -> None:
    splitter = TagSplitter("<think>", "</think>")
    splitter.feed("<th")
    assert joined(splitter.close()) == [("text", "<th")]
    assert splitter.close() == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("", "b"), ValueError, "open must not be empty"),
        (("a", ""), ValueError, "close must not be empty"),
        ((1, "b"), TypeError, "open must be a str, got int"),
        (("a", None), TypeError, "close must be a str, got NoneType"),
    ],
)
def test_invalid_tag_raises_at_the_call(
    arguments: tuple[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        think_tags(*arguments)
