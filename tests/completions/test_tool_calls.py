"""Tool calls are emitted whole, whatever fragments the server sends, or not at all."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
import reactivex
from faces import Face
from hypothesis import given
from hypothesis import strategies as st
from reactivex.subject import Subject

from rxmistral import (
    CompletionEvent,
    DroppedStreamError,
    Mistral,
    ToolCall,
    UnfinishedToolCall,
    UserMessage,
    to_response,
    tool_calls,
)
from rxmistral.completions.tool_calls import ToolCallAccumulator
from rxmistral.models import CompletionChunk, decode_hook
from rxmistral.testing import ScriptedServer, steps
from rxmistral.wire.reader import READERS

decode = msgspec.json.Decoder(CompletionChunk, dec_hook=decode_hook).decode


def event(*calls: dict[str, Any], finish: str | None = None, choice: int = 0) -> CompletionEvent:
    delta = {"tool_calls": list(calls)} if calls else {}
    whole = {"choices": [{"index": choice, "delta": delta, "finish_reason": finish}]}
    return CompletionEvent(data=decode(json.dumps(whole)))


def part(
    arguments: Any = None, name: str | None = None, index: int | None = None, **more: Any
) -> dict[str, Any]:
    """Returns a fragment as JSON, without the fields that are None."""
    function = {"name": name, "arguments": arguments}
    call: dict[str, Any] = {
        "function": {k: v for k, v in function.items() if v is not None},
        **more,
    }
    return call if index is None else {**call, "index": index}


def emitted_calls(*events: CompletionEvent) -> list[ToolCall]:
    calls: list[ToolCall] = []
    reactivex.from_iterable(events).pipe(tool_calls()).subscribe(calls.append)
    return calls


def summary(calls: list[ToolCall]) -> list[tuple[Any, ...]]:
    return [(call.id, call.function.name, call.function.arguments) for call in calls]


CASES: dict[str, tuple[list[CompletionEvent], list[tuple[Any, ...]]]] = {
    "whole, with finish_reason in the same chunk": (
        [event(part('{"a":1}', "f", id="x"), finish="tool_calls")],
        [("x", "f", '{"a":1}')],
    ),
    "two whole ones in one delta, without index or type": (
        [event(part('{"a":1}', "f", id="x"), part('{"b":2}', "g", id="y"), finish="tool_calls")],
        [("x", "f", '{"a":1}'), ("y", "g", '{"b":2}')],
    ),
    "two whole ones in one delta, without index or id": (
        [event(part("{}", "f"), part("{}", "f"), finish="tool_calls")],
        [(None, "f", "{}"), (None, "f", "{}")],
    ),
    "two whole ones in successive chunks, without index": (
        [
            event(part('{"a":1}', "f", id="x")),
            event(part('{"b":2}', "f", id="y")),
            event(finish="tool_calls"),
        ],
        [("x", "f", '{"a":1}'), ("y", "f", '{"b":2}')],
    ),
    "two whole ones that a server numbers alike": (
        [
            event(part('{"a":1}', "f", 0, id="x")),
            event(part('{"b":2}', "f", 0, id="y"), finish="tool_calls"),
        ],
        [("x", "f", '{"a":1}'), ("y", "f", '{"b":2}')],
    ),
    "fragments by index, with an empty name and the id null, absent or another": (
        [
            event(part("", "weather", 0, id="call9", type="function")),
            event(part('{"city": "Par', "", 0, type="function")),
            event(part("is", "", 0, id="null")),
            event(part('"}', "", 0, id="another")),
            event(finish="tool_calls"),
        ],
        [("call9", "weather", '{"city": "Paris"}')],
    ),
    "fragments that repeat the name": (
        [
            event(part('{"a":', "f", 0, id="x")),
            event(part("1}", "f", 0)),
            event(finish="tool_calls"),
        ],
        [("x", "f", '{"a":1}')],
    ),
    "fragments that repeat the name and change the id": (
        [
            event(part('{"a":', "f", 0, id="x")),
            event(part("1}", "f", 0, id="y")),
            event(finish="stop"),
        ],
        [("x", "f", '{"a":1}')],
    ),
    "fragments without an index that repeat the id": (
        [
            event(part('{"a":', "f", id="x")),
            event(part('{"b":', "g", id="y")),
            event(part("1}", id="x")),
            event(part("2}", id="y")),
            event(finish="tool_calls"),
        ],
        [("x", "f", '{"a":1}'), ("y", "g", '{"b":2}')],
    ),
    "fragments with neither index, id nor name": (
        [
            event(part('{"a":', "f", id="x")),
            event(part("1")),
            event(part("}")),
            event(finish="stop"),
        ],
        [("x", "f", '{"a":1}')],
    ),
    "interleaved fragments": (
        [
            event(part('{"a":', "f", 0, id="x"), part('{"b":', "g", 1, id="y")),
            event(part("[1", "", 0)),
            event(part("[2", "", 1)),
            event(part("]}", "", 0), part("]}", "", 1)),
            event(finish="tool_calls"),
        ],
        [("x", "f", '{"a":[1]}'), ("y", "g", '{"b":[2]}')],
    ),
    "arguments as an object": (
        [event(part({"a": [1]}, "f", id="x"), finish="tool_calls")],
        [("x", "f", {"a": [1]})],
    ),
    "no arguments at all": (
        [event(part(name="f", id="x")), event(part("", "g", id="y")), event(finish="tool_calls")],
        [("x", "f", ""), ("y", "g", "")],
    ),
    "fragments of two calls that a server numbers alike": (
        [
            event(part("", "f", 0, id="x")),
            event(part('{"a":1}', "", 0)),
            event(part("", "g", 0, id="y")),
            event(part('{"b":2}', "", 0)),
            event(finish="tool_calls"),
        ],
        [("x", "f", '{"a":1}'), ("y", "g", '{"b":2}')],
    ),
    "a last fragment that is empty, with another id": (
        [event(part('{"a":1}', "f", 0, id="x")), event(part("", "", 0, id="y"), finish="stop")],
        [("x", "f", '{"a":1}')],
    ),
    "fragments without an index, with another id and an empty name": (
        [event(part('{"a":', "f", id="x")), event(part("1}", "", id="y")), event(finish="stop")],
        [("x", "f", '{"a":1}')],
    ),
    "an answer that its length cut in the middle of a call": (
        [event(part('{"a":1}', "f", 0), part('{"b":', "g", 1)), event(finish="length")],
        [(None, "f", '{"a":1}')],
    ),
    "an answer that its length cut before the arguments of a call": (
        [event(part("", "delete_all", 0, id="c1"), finish="length")],
        [],
    ),
    "an answer whose call begins after its length has cut it": (
        [event(finish="length"), event(part("", "delete_all", 0, id="c1"))],
        [],
    ),
    "an answer that its length cut in the middle of two interleaved calls": (
        [
            event(part('{"a":', "f", 0), part('{"b":', "g", 1), part("{}", "h", 2)),
            event(finish="model_length"),
        ],
        [(None, "h", "{}")],
    ),
    "an answer that a filter cut before the arguments of a call": (
        [event(part(name="f", id="x")), event(finish="content_filter")],
        [],
    ),
    "a call without arguments that the model has ended": (
        [event(part("", "now", 0, id="c1"), finish="tool_calls")],
        [("c1", "now", "")],
    ),
    "the end without a finish_reason": (
        [event(part('{"a":1}', "f", 0, id="x"))],
        [("x", "f", '{"a":1}')],
    ),
    "none": ([event(), event(finish="stop")], []),
}


@pytest.mark.parametrize("case", CASES)
def test_fragments_become_whole_calls(case: str) -> None:
    events, expected = CASES[case]
    assert summary(emitted_calls(*events)) == expected


def test_call_is_emitted_when_the_next_begins_or_at_the_finish() -> None:
    source: Subject[CompletionEvent] = Subject()
    calls: list[ToolCall] = []
    source.pipe(tool_calls()).subscribe(calls.append)
    source.on_next(event(part('{"a":1}', "f", 0, id="x")))
    assert not calls
    source.on_next(event(part("", "g", 1, id="y")))
    assert summary(calls) == [("x", "f", '{"a":1}')]
    source.on_next(event(part("{}", "", 1), finish="tool_calls"))
    assert summary(calls)[1:] == [("y", "g", "{}")]


def test_interleaved_call_is_not_complete_when_another_begins() -> None:
    accumulator = ToolCallAccumulator()
    (first,) = event(part('{"a":', "f", 0)).data.choices[0].delta.tool_calls or ()
    (second,) = event(part('{"b":1}', "g", 1)).data.choices[0].delta.tool_calls or ()
    assert accumulator.feed([first, second]) == []


@pytest.mark.parametrize("arguments", ['{"a":', '{"a":1}', ""])
def test_broken_stream_never_emits_the_open_call(arguments: str) -> None:
    source: Subject[CompletionEvent] = Subject()
    calls: list[ToolCall] = []
    errors: list[Exception] = []
    source.pipe(tool_calls()).subscribe(calls.append, errors.append)
    source.on_next(event(part('{"x":1}', "whole", 0)))
    source.on_next(event(part(arguments, "half", 1)))
    source.on_error(DroppedStreamError("cut"))
    assert [call.function.name for call in calls] == ["whole"]
    assert len(errors) == 1


def test_finish_reason_error_completes_no_call() -> None:
    source: Subject[CompletionEvent] = Subject()
    calls: list[ToolCall] = []
    source.pipe(tool_calls()).subscribe(calls.append, lambda _: None)
    source.on_next(event(part('{"a":', "f", 0), finish="error"))
    source.on_error(DroppedStreamError("cut"))
    assert not calls


def test_choice_selects_the_answer() -> None:
    events = [
        event(part("{}", "f"), finish="tool_calls"),
        event(part("{}", "g"), finish="tool_calls", choice=1),
    ]
    (call,) = list(reactivex.from_iterable(events).pipe(tool_calls(choice=1)))
    assert call.function.name == "g"


def test_fields_that_were_not_sent_are_none() -> None:
    (call,) = emitted_calls(event(part("{}", "f"), finish="tool_calls"))
    assert (call.id, call.type, call.index) == (None, None, None)


@given(
    objects=st.lists(st.dictionaries(st.text(), st.text() | st.integers()), min_size=1, max_size=4),
    data=st.data(),
)
def test_calls_survive_any_cuts_and_interleaving(
    objects: list[dict[str, Any]], data: st.DataObject
) -> None:
    queues = []
    for index, value in enumerate(objects):
        whole = json.dumps(value)
        cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6)))
        pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        queue = [part(pieces[0], f"f{index}", index, id=f"id{index}")]
        queue += [part(piece, "", index) for piece in pieces[1:]]
        queues.append(queue)
    first_parts = [queue.pop(0) for queue in queues]  # in order
    rest = data.draw(st.permutations([i for i, queue in enumerate(queues) for _ in queue]))
    events = [event(each) for each in first_parts]
    events += [event(queues[index].pop(0)) for index in rest]
    calls = emitted_calls(*events, event(finish="tool_calls"))
    assert [json.loads(str(call.function.arguments)) for call in calls] == objects
    assert [call.id for call in calls] == [f"id{index}" for index in range(len(objects))]


def test_each_piece_of_arguments_is_read_once() -> None:
    """Neither pieces that end like an object nor repeated names cause a second reading."""
    accumulator = ToolCallAccumulator()
    pieces = ['{"a":[', *["{},"] * 3000, "{}]}"]
    (begin,) = event(part("", "f", 0)).data.choices[0].delta.tool_calls or ()
    accumulator.feed([begin])
    (other,) = event(part("{}", "g", 1)).data.choices[0].delta.tool_calls or ()
    calls = accumulator.feed([other])
    began = time.thread_time()
    for piece in pieces:
        (fragment,) = event(part(piece, "f", 0)).data.choices[0].delta.tool_calls or ()
        calls += accumulator.feed([fragment])
    assert [call.function.name for call in calls] == ["f"]
    assert time.thread_time() - began < 2  # CPU seconds; with a second reading it takes minutes


# --- a call that was cut off -----------------------------------------------------


@pytest.mark.parametrize("reader", READERS, indirect=True)
def test_cut_call_is_unfinished_on_every_face(read: Face) -> None:
    call = steps.delta({"tool_calls": [part("", "delete_all", 0, id="c1")]})
    script = [call, steps.finish("length"), steps.done()]
    with ScriptedServer(script, script) as server, Mistral(server_url=server.url) as client:
        answer = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
        assert [each for each in read(answer.pipe(tool_calls())) if each is not None] == []
        (response,) = [each for each in read(answer.pipe(to_response())) if each is not None]
    (unfinished,) = response.choices[0].message.tool_calls
    assert isinstance(unfinished, UnfinishedToolCall)
    assert (unfinished.id, unfinished.function.name) == ("c1", "delete_all")


@pytest.mark.parametrize("reason", ["length", "model_length", "content_filter"])
def test_response_keeps_order_of_calls_when_some_are_cut(reason: str) -> None:
    calls = [part("", "f", 0), part("{}", "g", 1), part('{"a"', "h", 2)]
    response = reactivex.of(event(*calls, finish=reason)).pipe(to_response()).run()
    shown = [(call.function.name, type(call)) for call in response.choices[0].message.tool_calls]
    assert shown == [("f", UnfinishedToolCall), ("g", ToolCall), ("h", UnfinishedToolCall)]
