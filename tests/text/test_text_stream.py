"""TextStream: the operators on text as methods, and what they return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import reactivex
from faces import FACES, Face
from reactivex import operators as ops

from rxmistral import SharedStream, Stream, TextStream, coalesced, shared, words


class Person(msgspec.Struct):
    name: str


def text(*pieces: str) -> TextStream:
    return TextStream.of(reactivex.of(*pieces))


@pytest.mark.parametrize("read", FACES.values(), ids=FACES)
def test_methods_return_the_items_of_the_operators(read: Face) -> None:
    assert read(text("Hel", "lo wor", "ld").words()) == ["Hello ", "world"]
    assert read(text("Hi. ", "You.").sentences().map(str.strip)) == ["Hi.", "You."]
    assert read(text('[{"name"', ': "Ann"}]').items(Person)) == [Person("Ann")]


@pytest.mark.parametrize(
    "apply",
    [
        lambda stream: stream.sentences(),
        lambda stream: stream.sentences(max_wait=60),
        lambda stream: stream.words(),
        lambda stream: stream.text_lines(),
        lambda stream: stream.paragraphs(),
        lambda stream: stream.paced(60),
        lambda stream: stream.coalesced(60),
        lambda stream: stream.guarded("secret", max_length=6),
        lambda stream: stream.pipe(ops.take(9), words(), coalesced(60)),
        lambda stream: stream.pipe(),
    ],
)
def test_text_operators_return_text_streams(apply: Callable[[TextStream], Any]) -> None:
    result = apply(text("Hello ", "world."))
    assert isinstance(result, TextStream)
    assert "".join(result.words()) == "Hello world."


def test_other_operators_return_streams() -> None:
    results = [
        text("{}").parsed(dict),
        text("{}").partials(dict),
        text("[]").items(dict),
        text("```\n1\n```").code_blocks(),
        text("<think>a</think>b").think_tags(),
        text("a").map(str.upper),
    ]
    assert all(type(result) is Stream for result in results)


def test_shared_text_stays_shared_in_a_pipe() -> None:
    assert isinstance(text("a").pipe(words(), shared()), SharedStream)


def test_of_returns_a_text_stream_unchanged() -> None:
    pieces = text("a")
    assert TextStream.of(pieces) is pieces


def test_of_rejects_other_types() -> None:
    with pytest.raises(TypeError, match="expected an Observable, got list"):
        TextStream.of(["a"])  # type: ignore[arg-type]
