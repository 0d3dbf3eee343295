"""The accumulator, and the operators on what completions add up to."""

from __future__ import annotations

import copy
import json
import pickle
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import reactivex
from faces import Face
from hypothesis import given
from hypothesis import strategies as st
from reactivex.subject import Subject

from rxmistral import (
    ChatCompletionResponse,
    CompletionEvent,
    DroppedStreamError,
    Mistral,
    UsageInfo,
    UserMessage,
    finish_reason,
    parsed,
    snapshots,
    text,
    to_response,
    usage,
)
from rxmistral.completions.accumulator import CompletionAccumulator
from rxmistral.logs.encoding import decode_item, encode_item
from rxmistral.models import CompletionChunk, ThinkChunk, decode_hook
from rxmistral.testing import ScriptedServer, steps
from rxmistral.wire.reader import READERS

decode = msgspec.json.Decoder(CompletionChunk, dec_hook=decode_hook).decode


def event(
    content: Any = None, finish: str | None = None, index: int = 0, **more: Any
) -> CompletionEvent:
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": {**delta, **more.pop("delta", {})}, "finish_reason": finish}
    choice.update(more.pop("choice", {}))
    whole = {"id": "a1", "model": "m", "created": 7, "choices": [choice], **more}
    return CompletionEvent(data=decode(json.dumps(whole)))


def response(*events: CompletionEvent) -> ChatCompletionResponse:
    return reactivex.from_iterable(events).pipe(to_response()).run()


def thinking(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}], **more}


def test_response_equals_the_endpoint_without_streaming() -> None:
    whole = response(
        event("", delta={"role": "assistant"}),
        event("Hel"),
        event("lo"),
        event("", finish="stop", usage={"total_tokens": 3}),
    )
    assert msgspec.to_builtins(whole) == {
        "id": "a1",
        "object": "chat.completion",
        "model": "m",
        "created": 7,
        "usage": {"total_tokens": 3},
        "choices": [
            {
                "index": 0,
                "message": {"content": "Hello", "tool_calls": None, "role": "assistant"},
                "finish_reason": "stop",
            }
        ],
    }


def test_response_merges_thinking_and_text_into_parts() -> None:
    whole = response(
        event([thinking("Let ")]),
        event([thinking("me see.", closed=True), {"type": "text", "text": "Four"}]),
        event("."),
        event("", finish="stop"),
    )
    content = whole.choices[0].message.content  # type: ignore[union-attr]
    assert msgspec.to_builtins(content) == [
        thinking("Let me see.", closed=True),
        {"type": "text", "text": "Four."},
    ]


def test_response_keeps_unknown_content_in_place() -> None:
    whole = response(event("a"), event([{"type": "new", "x": 1}]), event("b", finish="stop"))
    content = whole.choices[0].message.content  # type: ignore[union-attr]
    assert msgspec.to_builtins(content) == [
        {"type": "text", "text": "a"},
        {"type": "new", "x": 1},
        {"type": "text", "text": "b"},
    ]


def test_response_joins_tool_call_fragments() -> None:
    def fragment(arguments: str, **more: Any) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "function": {"arguments": arguments, **more}}]}

    whole = response(
        event(delta=fragment('{"a":', name="f")),
        event(delta=fragment("1}")),
        event(finish="tool_calls"),
    )
    message = whole.choices[0].message
    assert message is not None
    assert message.content is None
    (call,) = message.tool_calls or ()
    assert (call.function.name, call.function.arguments) == ("f", '{"a":1}')


def test_bounded_accumulator_joins_short_texts() -> None:
    received = CompletionAccumulator(bounded=True)
    for number in range(5000):
        chunk = event(f"{number} ").data
        if not received.feed_text(chunk.choices[0]):
            received.feed(chunk)
    assert received.text() == "".join(f"{number} " for number in range(5000))
    assert len(received._choices[0].contents) < 1100


def test_response_has_all_n_answers_by_index() -> None:
    whole = response(event("b", index=1), event("a"), event("B", "stop", 1), event("A", "length"))
    assert [
        (choice.index, choice.message.content, choice.finish_reason)  # type: ignore[union-attr]
        for choice in whole.choices
    ] == [(0, "aA", "length"), (1, "bB", "stop")]


def test_response_joins_logprobs() -> None:
    tokens = [{"content": [{"token": token, "logprob": -1, "bytes": None}]} for token in "ab"]
    whole = response(*(event(choice={"logprobs": each}) for each in tokens), event(finish="stop"))
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert [each.token for each in logprobs.content or ()] == ["a", "b"]


AGGREGATES = {
    "to_response": to_response(),
    "usage": usage(),
    "parsed": lambda source: source.pipe(text(), parsed(int)),
}


@pytest.mark.parametrize("name", AGGREGATES)
@pytest.mark.parametrize("reader", READERS, indirect=True)
def test_aggregate_emits_nothing_before_an_error(read: Face, name: str) -> None:
    script = ["12", steps.usage(1, 2), steps.abort()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        answer = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
        (error,) = [each for each in read(answer.pipe(AGGREGATES[name])) if each is not None]
    assert isinstance(error, DroppedStreamError)
    assert error.partial is not None
    assert error.partial.choices[0].message.content == "12"
    assert error.partial.usage is not None


def test_response_of_an_empty_stream_is_empty() -> None:
    assert list(reactivex.from_iterable(()).pipe(to_response())) == []
    assert list(reactivex.from_iterable(()).pipe(snapshots())) == []


def test_snapshots_grow_and_earlier_ones_stay_unchanged() -> None:
    events = [event("Hel"), event("lo"), event("", finish="stop", usage={"total_tokens": 1})]
    growing = list(reactivex.from_iterable(events).pipe(snapshots()))
    assert all(isinstance(each, ChatCompletionResponse) for each in growing)
    contents = [each.choices[0].message.content for each in growing]  # type: ignore[union-attr]
    assert contents == ["Hel", "Hello", "Hello"]
    assert [each.choices[0].finish_reason for each in growing] == [None, None, "stop"]
    assert [each.usage for each in growing] == [None, None, UsageInfo(total_tokens=1)]


def test_snapshot_choices_equal_the_response() -> None:
    accumulator = CompletionAccumulator()
    for each in (event([thinking("hm")]), event("Hi", finish="stop")):
        accumulator.feed(each.data)
    snapshot = accumulator.snapshot()
    assert snapshot.choices == accumulator.response().choices
    assert snapshot.choices is snapshot.choices
    assert isinstance(snapshot.choices[0].message.content[0], ThinkChunk)  # type: ignore[union-attr,index]


def snapshot_of_hi() -> ChatCompletionResponse:
    accumulator = CompletionAccumulator()
    accumulator.feed(event("Hi", finish="stop").data)
    return accumulator.snapshot()


@pytest.mark.parametrize(
    "view",
    [
        lambda snapshot: snapshot.choices,
        repr,
        msgspec.json.encode,
        msgspec.to_builtins,
        lambda snapshot: pickle.loads(pickle.dumps(snapshot)),
        copy.copy,
        lambda snapshot: snapshot == response(event("Hi", finish="stop")),
    ],
)
def test_snapshot_equals_response_in_every_view(view: Callable[[Any], object]) -> None:
    assert view(snapshot_of_hi()) == view(response(event("Hi", finish="stop")))


def test_snapshot_is_a_mutable_response() -> None:
    snapshot = snapshot_of_hi()
    assert isinstance(snapshot, ChatCompletionResponse)
    assert snapshot.__struct_fields__ == ChatCompletionResponse.__struct_fields__
    snapshot.choices = []
    assert snapshot.choices == []
    assert type(snapshot) is ChatCompletionResponse


PIECES = [
    event("Hel"),
    event("lo", delta={"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]}),
    event([thinking("Let ")]),
    event([thinking("me see.", closed=True), {"type": "text", "text": "Four"}]),
    event([{"type": "new", "x": 1}, {"type": "text", "text": ""}, "b"]),
    event("c", delta={"tool_calls": [{"index": 1, "function": {"name": "g", "arguments": ""}}]}),
    event(delta={"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}),
    event("d", index=1, choice={"logprobs": {"content": [{"token": "d", "logprob": -1}]}}),
    event("", finish="tool_calls"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_each_snapshot_equals_the_response_at_its_time(events: list[CompletionEvent]) -> None:
    accumulator = CompletionAccumulator()
    actual, expected = [], []
    for each in events:
        accumulator.feed(each.data)
        actual.append(accumulator.snapshot())
        expected.append(copy.deepcopy(accumulator.response()))
    assert actual == expected


def cpu_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    for _ in range(300):
        work()
    return time.process_time() - began


def test_released_snapshot_costs_only_new_text() -> None:
    accumulator = CompletionAccumulator()
    text = "x" * 10_000_000
    accumulator.feed(event(text).data)
    piece = event("yy").data

    def snapshot() -> None:
        accumulator.feed(piece)
        content: Any = accumulator.snapshot().choices[0].message.content  # type: ignore[union-attr]
        assert content[-1] == "y"

    snapshot()
    assert cpu_seconds(snapshot) < cpu_seconds(lambda: text + "yy") / 4


def test_snapshot_can_be_logged_and_converted_to_a_dict() -> None:
    snapshot = snapshot_of_hi()
    assert decode_item(encode_item(snapshot)) == snapshot
    (choice,) = msgspec.structs.asdict(snapshot)["choices"]
    assert choice.message.content == "Hi"


def test_finish_reason_emits_a_repeated_reason_once() -> None:
    events = [event(finish="stop"), event("a"), event(finish="stop"), event(finish="stop", index=1)]
    assert list(reactivex.from_iterable(events).pipe(finish_reason())) == ["stop"]
    assert list(reactivex.from_iterable(events).pipe(finish_reason(1))) == ["stop"]


def test_usage_emits_the_last_one_at_the_end() -> None:
    source: Subject[CompletionEvent] = Subject()
    emitted: list[UsageInfo] = []
    source.pipe(usage()).subscribe(emitted.append)
    source.on_next(event(usage={"total_tokens": 1}))
    source.on_next(event(usage={"total_tokens": 2}))
    source.on_next(event(usage=None))
    assert not emitted
    source.on_completed()
    assert [each.total_tokens for each in emitted] == [2]


def test_usage_emits_nothing_when_none_was_sent() -> None:
    assert list(reactivex.of(event("Hi")).pipe(usage())) == []


def test_finish_reason_is_emitted_on_arrival() -> None:
    source: Subject[CompletionEvent] = Subject()
    emitted: list[str] = []
    source.pipe(finish_reason(choice=1)).subscribe(emitted.append)
    source.on_next(event("", finish="stop"))
    assert not emitted
    source.on_next(event("", finish="a_new_word", index=1))
    assert emitted == ["a_new_word"]
