"""Completions to deltas and text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import reactivex

from rxmistral import (
    CompletionChunk,
    CompletionEvent,
    CompletionResponseStreamChoice,
    DeltaMessage,
    ReferenceChunk,
    TextChunk,
    ThinkChunk,
    UnknownContentChunk,
    deltas,
    text,
    until_finished,
)


def completion(*choices: tuple[int | None, Any]) -> CompletionEvent:
    """Returns one chunk; each choice is given by its index and content."""
    return CompletionEvent(
        data=CompletionChunk(
            choices=[
                CompletionResponseStreamChoice(index=index, delta=DeltaMessage(content=content))
                for index, content in choices
            ]
        )
    )


def through(operator: Any, *events: CompletionEvent) -> list[Any]:
    got: list[Any] = []
    reactivex.of(*events).pipe(operator).subscribe(got.append)
    return got


INTERLEAVED = [
    completion((0, "a")),
    completion((1, "b")),
    completion(),
    completion((1, "c"), (0, "d")),
    completion((0, None)),
    completion((2, ""), (2, "e")),
]


@pytest.mark.parametrize(
    ("choice", "contents"), [(0, ["a", "d", None]), (1, ["b", "c"]), (2, ["", "e"]), (3, [])]
)
def test_deltas_selects_one_answer(choice: int, contents: list[str | None]) -> None:
    expected = [DeltaMessage(content=content) for content in contents]
    assert through(deltas(choice), *INTERLEAVED) == expected


@pytest.mark.parametrize(("choice", "pieces"), [(0, "ad"), (1, "bc"), (2, "e"), (3, "")])
def test_text_selects_one_answer(choice: int, pieces: str) -> None:
    assert through(text(choice), *INTERLEAVED) == list(pieces)


@pytest.mark.parametrize("operator", [deltas, text])
def test_choice_defaults_to_the_first_answer(operator: Callable[..., Any]) -> None:
    assert through(operator(), *INTERLEAVED) == through(operator(choice=0), *INTERLEAVED)


def test_choice_without_index_is_the_first() -> None:
    assert through(text(), completion((None, "a"))) == ["a"]
    assert through(deltas(), completion((None, "a"))) == [DeltaMessage(content="a")]
    assert through(text(1), completion((None, "a"))) == []


def test_deltas_emits_the_received_object() -> None:
    event = completion((0, "a"))
    assert through(deltas(), event)[0] is event.data.choices[0].delta


THOUGHT = ThinkChunk(thinking=[TextChunk(text="hm")])


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        ("a", ["a"]),
        (" ", [" "]),
        ("\n", ["\n"]),
        ("", []),
        (None, []),
        ([], []),
        ([TextChunk(text="a"), TextChunk(text="b")], ["a", "b"]),
        ([TextChunk(text="")], []),
        ([THOUGHT], []),
        ([THOUGHT, TextChunk(text="a")], ["a"]),
        ([ReferenceChunk(reference_ids=[]), TextChunk(text="{")], ["{"]),
        ([UnknownContentChunk({"type": "novel", "text": "a"})], []),
    ],
)
def test_text_emits_neither_empty_strings_nor_thinking(content: Any, pieces: list[str]) -> None:
    assert through(text(), completion((0, content))) == pieces


def test_text_reads_strings_and_lists_in_one_stream() -> None:
    mixed = [
        completion((0, "")),
        completion((0, [THOUGHT])),
        completion((0, [THOUGHT, TextChunk(text="a")])),
        completion((0, "b")),
        completion((0, None)),
    ]
    assert through(text(), *mixed) == ["a", "b"]


@pytest.mark.parametrize("operator", [deltas, text, until_finished])
@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        (-1, ValueError, "choice must be 0 or more, got -1"),
        ("0", TypeError, "choice must be an int, got str"),
        (0.0, TypeError, "choice must be an int, got float"),
        (True, TypeError, "choice must be an int, got bool"),
        (None, TypeError, "choice must be an int, got NoneType"),
    ],
)
def test_invalid_choice_raises_at_the_call(
    operator: Callable[..., Any], choice: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        operator(choice)


@pytest.mark.parametrize("operator", [deltas, text, until_finished])
def test_uncalled_operator_raises_a_helpful_error(operator: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="choice must be an int, got"):
        reactivex.of(completion((0, "a"))).pipe(operator)
