"""Surrogate pairs that were split over chunks, in text, thinking and arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reactivex import Subject

from rxmistral import (
    FileChunk,
    TextChunk,
    ThinkChunk,
    ToolCall,
    UnknownContentChunk,
    completions,
    text,
)
from rxmistral.completions.accumulator import CompletionAccumulator
from rxmistral.completions.decoding import CompletionDecoder
from rxmistral.wire import ServerSentEvent

no_deadline = settings(deadline=None)  # a loaded machine is not a defect

HIGH, LOW = "\ud83d", "\ude00"


def event(chunk: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(data=json.dumps(chunk))


def chunk(delta: dict[str, Any], index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def decoded_delta(delta: dict[str, Any]) -> Any:
    completion = CompletionDecoder(CompletionAccumulator()).feed(event(chunk(delta)))
    assert completion is not None
    return completion.data.choices[0].delta


SHAPES: dict[str, Callable[[str], dict[str, Any]]] = {
    "string": lambda part: {"content": part},
    "list": lambda part: {"content": [{"type": "text", "text": part}]},
    "bare string in a list": lambda part: {"content": [part]},
    "parts": lambda part: {
        "content": [{"type": "text", "text": each} for each in (part[:1], part[1:])]
    },
    "next to a thought": lambda part: {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": part},
        ]
    },
    "thinking": lambda part: {
        "content": [{"type": "thinking", "thinking": [{"type": "text", "text": part}]}]
    },
    "arguments": lambda part: {"tool_calls": [{"index": 0, "function": {"arguments": part}}]},
    "arguments of the second call": lambda part: {
        "tool_calls": [
            {"index": 0, "function": {"arguments": ""}},
            {"index": 1, "function": {"arguments": part}},
        ]
    },
}


def text_in(content: Any) -> str:
    """Returns all text in a content, with thoughts, except the "hm" that every delta repeats."""
    if isinstance(content, str):
        return content
    parts = ""
    for part in content or []:
        if isinstance(part, TextChunk):
            parts += part.text
        elif isinstance(part, ThinkChunk):
            thought = text_in(part.thinking)
            parts += "" if thought == "hm" else thought
    return parts


def arguments_in(calls: list[ToolCall] | None) -> str:
    return "".join(
        call.function.arguments for call in calls or [] if isinstance(call.function.arguments, str)
    )


def decoded_text(*chunks: dict[str, Any]) -> dict[int, str]:
    """Returns all text of an answer, by choice; the chunks are decoded from JSON with escapes."""
    decoder = CompletionDecoder(CompletionAccumulator())
    got: dict[int, str] = {}
    for chunk in chunks:
        completion = decoder.feed(event(chunk))
        assert completion is not None
        for choice in completion.data.choices:
            index = choice.index or 0
            got[index] = got.get(index, "") + text_in(choice.delta.content)
            got[index] += arguments_in(choice.delta.tool_calls)
    assert not decoder._surrogates.waiting, "a waiting half keeps later events on the slow path"
    return got


def joined(units: str) -> str:
    """Returns the code units joined as UTF-16, with lone surrogates replaced."""
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


UNITS = st.text(st.sampled_from([HIGH, LOW, "\ud800", "\udbff", "\udc00", "\udfff", "a", "é", "\uffff"]), max_size=6)  # fmt: skip
STOPS: dict[str, dict[str, Any]] = {
    "empty": {"delta": {"content": ""}},
    "null": {"delta": {"content": None}},
    "absent": {"delta": {}},
    "no delta": {},
    "delta null": {"delta": None},
    "empty list": {"delta": {"content": []}},
    "a thought": {"delta": {"content": [{"type": "thinking", "thinking": []}]}},
    "calls null": {"delta": {"tool_calls": None}},
}


@no_deadline
@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@given(parts=st.lists(UNITS, max_size=6))
@example(parts=[HIGH, LOW])
@example(parts=[HIGH, "", "", LOW])
@example(parts=[HIGH])
@example(parts=[HIGH, "a"])
@example(parts=[HIGH, HIGH + LOW, LOW])
def test_text_split_anywhere_is_joined(
    shape: Callable[[str], dict[str, Any]], stop: dict[str, Any], parts: list[str]
) -> None:
    last = {"choices": [{"index": 0, "finish_reason": "stop", **stop}]}
    got = decoded_text(*(chunk(shape(part)) for part in parts), last)
    whole = joined("".join(parts))
    if is_in_content(shape) or not "\ud800" <= "".join(parts)[-1:] <= "\udbff":
        assert got == {0: whole}
    else:  # the lone half of a thought or of arguments that were cut off is dropped
        assert got == {0: whole.removesuffix("\ufffd")}


def is_in_content(shape: Callable[[str], dict[str, Any]]) -> bool:
    return shape not in (
        SHAPES["thinking"],
        SHAPES["arguments"],
        SHAPES["arguments of the second call"],
    )


@no_deadline
@given(parts=st.lists(st.tuples(st.integers(0, 2), UNITS), max_size=10))
def test_halves_of_interleaved_answers_do_not_mix(parts: list[tuple[int, str]]) -> None:
    stops = [chunk({"content": ""}, index, "stop") for index in range(3)]
    got = decoded_text(*(chunk({"content": units}, index) for index, units in parts), *stops)
    for choice in range(3):
        assert got[choice] == joined("".join(units for index, units in parts if index == choice))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_half_in_the_finishing_chunk_is_replaced(shape: Callable[[str], dict[str, Any]]) -> None:
    last = chunk(shape("a" + HIGH), finish="length")
    assert decoded_text(last) == {0: "a\ufffd"}
    assert decoded_text(chunk(shape(HIGH)), chunk(shape(LOW), finish="stop")) == {0: "😀"}


def test_half_left_at_the_end_keeps_other_content() -> None:
    decoder = CompletionDecoder(CompletionAccumulator())
    decoder.feed(event(chunk({"content": HIGH})))
    last = decoder.feed(
        event(chunk({"content": [{"type": "file", "file_id": "f"}]}, finish="stop"))
    )
    assert last is not None
    content: Any = last.data.choices[0].delta.content
    assert content == [FileChunk(file_id="f"), TextChunk(text="\ufffd")]


def test_text_thought_and_arguments_are_joined_separately() -> None:
    shapes = [SHAPES["string"], SHAPES["thinking"], SHAPES["arguments"]]
    got = decoded_text(
        *(chunk(shape(HIGH)) for shape in shapes),
        *(chunk(shape(LOW)) for shape in shapes),
        chunk({}, finish="stop"),
    )
    assert got == {0: "😀😀😀"}


def test_call_without_index_is_never_joined_to_another() -> None:
    call = {"function": {"arguments": "a" + HIGH}}
    other = {"function": {"arguments": LOW + "b"}}
    assert decoded_text(chunk({"tool_calls": [call, other]})) == {0: "a\ufffd\ufffdb"}
    assert decoded_text(chunk({"tool_calls": [call]}), chunk({"tool_calls": [other]})) == {0: "a\ufffd\ufffdb"}  # fmt: skip


def test_half_in_an_arguments_object_is_replaced() -> None:
    call = {"index": 0, "function": {"arguments": {HIGH: [LOW, HIGH + LOW]}}}
    [decoded] = decoded_delta({"tool_calls": [call]}).tool_calls
    assert decoded.function.arguments == {"\ufffd": ["\ufffd", "😀"]}


def test_half_in_unknown_content_is_replaced() -> None:
    content = decoded_delta({"content": [{"type": "novel", "x": HIGH}]}).content
    assert content == [UnknownContentChunk({"type": "novel", "x": "\ufffd"})]


def test_whole_emoji_is_emitted_at_once() -> None:
    assert decoded_text(chunk({"content": "😀"}), chunk({"content": HIGH + LOW})) == {0: "😀😀"}


def test_each_subscription_joins_its_own_halves() -> None:
    source: Subject[ServerSentEvent] = Subject()
    piped = source.pipe(completions(), text())
    one: list[str] = []
    two: list[str] = []
    piped.subscribe(one.append)
    source.on_next(event(chunk({"content": HIGH})))
    piped.subscribe(two.append)
    source.on_next(event(chunk({"content": LOW})))
    assert (one, two) == (["😀"], ["\ufffd"])


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_split_emoji_in_reasoning_is_joined(key: str) -> None:
    got = decoded_text(chunk({key: "a" + HIGH}), chunk({key: LOW + "b"}), chunk({}, finish="stop"))
    assert got == {0: "a😀b"}
