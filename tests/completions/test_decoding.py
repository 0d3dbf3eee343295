"""Events to completions: every ending, every oddity, and emojis cut in two."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import reactivex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reactivex import Observable, Subject
from reactivex.testing import ReactiveTest, TestScheduler
from reactivex.testing.subscription import Subscription

from rxmistral import (
    ChunkError,
    CompletionEvent,
    DroppedStreamError,
    FileChunk,
    FunctionCall,
    IncompleteStreamError,
    ReportedError,
    StreamError,
    TextChunk,
    ThinkChunk,
    ToolCall,
    UnknownContentChunk,
    completions,
    text,
)
from rxmistral.completions.accumulator import CompletionAccumulator
from rxmistral.completions.decoding import CompletionDecoder
from rxmistral.completions.fast_path import completions_of_blocks
from rxmistral.wire import ServerSentEvent, events, lines

no_deadline = settings(deadline=None)  # a loaded machine is no defect

DROPPED = DroppedStreamError("reset")
DONE = "[DONE]"


def delta(content: object, finish: str | None = None, **rest: object) -> str:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return json.dumps({"choices": [choice], **rest})


def collect(source: Observable[ServerSentEvent], **options: bool) -> list[object]:
    """What completions() emits, the terminal last."""
    got: list[object] = []
    source.pipe(completions(**options)).subscribe(got.append, got.append, lambda: got.append("end"))
    return got


def other(content: str, finish: str | None = None) -> str:
    """Of the second answer."""
    return delta(content, finish).replace('"index": 0', '"index": 1')


def those(*data: str | ServerSentEvent) -> Observable[ServerSentEvent]:
    return reactivex.from_iterable(
        each if isinstance(each, ServerSentEvent) else ServerSentEvent(data=each) for each in data
    )


def broken(*data: str | ServerSentEvent) -> Observable[ServerSentEvent]:
    return reactivex.concat(those(*data), reactivex.throw(DROPPED))


def summary(got: list[object]) -> list[object]:
    """Completions by their content, errors by their type."""
    return [
        each.data.choices[0].delta.content
        if isinstance(each, CompletionEvent) and each.data.choices
        else type(each)
        if isinstance(each, (Exception, CompletionEvent))
        else each
        for each in got
    ]


# --- endings ---------------------------------------------------------------------

A, STOP = delta("a"), delta("", "stop")
USAGE = '{"choices":[],"usage":{"total_tokens":3}}'


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # complete
        (those(A, STOP, DONE), ["a", "", "end"]),
        (those(A, DONE), ["a", "end"]),
        (those(A, STOP), ["a", "", "end"]),
        (those(A, STOP, USAGE), ["a", "", CompletionEvent, "end"]),
        (those(A, STOP, USAGE, DONE), ["a", "", CompletionEvent, "end"]),
        (those(DONE), ["end"]),
        (those(A, " [DONE] "), ["a", "end"]),
        # what comes after [DONE] is not of this answer
        (those(A, DONE, A, STOP, DONE), ["a", "end"]),
        (those(A, DONE, "nonsense"), ["a", "end"]),
        (those(A, DONE, '{"error":"x"}'), ["a", "end"]),
        (those(A, DONE, ServerSentEvent(event="error", data="x")), ["a", "end"]),
        (broken(A, DONE), ["a", "end"]),
        (broken(A, STOP), ["a", "", "end"]),
        (broken(A, STOP, USAGE), ["a", "", CompletionEvent, "end"]),
        (those(A, STOP, A, STOP, DONE), ["a", "", "a", "", "end"]),
        (those(A, STOP, '{"error":"x"}'), ["a", "", ReportedError]),
        (broken(delta("a", "stop"), other("b")), ["a", "b", DroppedStreamError]),
        (broken(delta("a", "stop"), other("b"), other("", "stop")), ["a", "b", "", "end"]),
        # truncated
        (those(), [IncompleteStreamError]),
        (those(A), ["a", IncompleteStreamError]),
        (those(A, USAGE), ["a", CompletionEvent, IncompleteStreamError]),
        (those(A, delta("", "")), ["a", "", IncompleteStreamError]),
        # dropped
        (broken(), [DroppedStreamError]),
        (broken(A), ["a", DroppedStreamError]),
        (broken(A, delta("b", "error")), ["a", "b", ReportedError]),
        # reported
        (those(A, delta("b", "error"), DONE), ["a", "b", ReportedError]),
        (those(A, '{"object":"error","message":"x"}', DONE), ["a", ReportedError]),
        (those(A, '{"error":{"message":"x"}}'), ["a", ReportedError]),
        (those(A, '{"error":"x"}'), ["a", ReportedError]),
        (those(A, '{"choices":[],"error":"x"}'), ["a", ReportedError]),
        (those(A, '{"error":"x","choices":"none"}'), ["a", ReportedError]),
        (those(A, '{"error":"x","id":7}'), ["a", ReportedError]),
        (those(A, '{"detail":"x"}'), ["a", ReportedError]),
        (those(A, '{"message":"x"}'), ["a", ReportedError]),
        (those(A, delta("b")[:-1] + ',"error":{"message":"x"}}', DONE), ["a", "b", ReportedError]),
        (those(delta('"error": is a word'), STOP, DONE), ['"error": is a word', "", "end"]),
        (those(A, ServerSentEvent(event="error", data='{"message":"x"}')), ["a", ReportedError]),
        (those(A, ServerSentEvent(event="error", data=A)), ["a", ReportedError]),
        (those(A, ServerSentEvent(event="error")), ["a", ReportedError]),
        # no chunk
        (those(A, A[:-1], A), ["a", ChunkError]),
        (those(A, "{nonsense}"), ["a", ChunkError]),
        (those(A, ServerSentEvent(event="chunk", data=A[:-1])), ["a", ChunkError]),
        # nothing at all
        (those("", " ", "\n", DONE), ["end"]),
    ],
)
def test_an_answer_ends_as_it_ended(
    source: Observable[ServerSentEvent], expected: list[object]
) -> None:
    assert summary(collect(source)) == expected


def test_a_clean_end_can_be_taken_for_an_end() -> None:
    assert summary(collect(those(A), accept_clean_end=True)) == ["a", "end"]
    assert summary(collect(those(), accept_clean_end=True)) == [IncompleteStreamError]
    assert summary(collect(those(delta("")), accept_clean_end=True)) == ["", IncompleteStreamError]
    assert summary(collect(broken(A), accept_clean_end=True)) == ["a", DroppedStreamError]
    assert summary(collect(those('{"error":"x"}'), accept_clean_end=True)) == [ReportedError]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (ServerSentEvent(data='{"object":"error","message":"Busy","type":"t","code":7}'), ("Busy", "t", "7")),
        (ServerSentEvent(data='{"error":{"message":"Busy","type":"t","code":"7"}}'), ("Busy", "t", "7")),
        (ServerSentEvent(data='{"error":"Busy"}'), ("Busy", None, None)),
        (ServerSentEvent(data='{"error":"Busy","id":7}'), ("Busy", None, None)),
        (ServerSentEvent(data='{"error":"a\x01b"}'), ("a\x01b", None, None)),
        (ServerSentEvent(data='{"error":"a\\ud83d","x":NaN}'), ("a\ufffd", None, None)),
        (ServerSentEvent(event="error", data="Busy"), ("Busy", None, None)),
        (ServerSentEvent(event="error", data='{"detail":"Busy"}'), ("Busy", None, None)),
        (ServerSentEvent(data=delta("", "error")), ("finish_reason is error", None, None)),
        (
            ServerSentEvent(
                data='{"choices": [{"delta": {"content": ""}, "finish_reason": "error", '
                '"error": {"message": "overloaded", "code": 502}}]}'
            ),
            ("overloaded", None, "502"),
        ),
        (ServerSentEvent(data=delta("", "error", message="Busy", code=7)), ("Busy", None, "7")),
        (ServerSentEvent(data=delta("", "error", error={"message": "Busy"})), ("Busy", None, None)),
    ],
)  # fmt: skip
def test_a_reported_error_carries_the_servers_words(
    event: ServerSentEvent, said: tuple[str, str | None, str | None]
) -> None:
    error = collect(those(event))[-1]
    assert isinstance(error, ReportedError)
    assert (error.message, error.type, error.code) == said
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_a_chunk_error_names_the_place_and_shows_the_data() -> None:
    data = '{"choices":[{"index":'
    [error] = collect(those(data))
    assert isinstance(error, ChunkError)
    assert error.data == data
    assert "column 22" in error.reason
    assert error.__cause__ is not None


def test_no_event_is_emitted_after_an_error() -> None:
    source: Subject[ServerSentEvent] = Subject()
    got = collect(source)
    source.on_next(ServerSentEvent(data="{nonsense"))
    source.on_next(ServerSentEvent(data=A))
    assert summary(got) == [ChunkError]
    assert not source.observers


# --- in virtual time -------------------------------------------------------------


@pytest.fixture
def scheduler() -> TestScheduler:
    return TestScheduler()


def happen(source: Observable[ServerSentEvent], scheduler: TestScheduler, **at: float) -> list[Any]:
    result = scheduler.start(lambda: source.pipe(completions()), **at)
    messages: list[Any] = result.messages
    return [(message.time, message.value.kind) for message in messages]


# Typed for whole ticks, which are seconds here; they take parts of them too.
on_next: Any = ReactiveTest.on_next
on_completed: Any = ReactiveTest.on_completed
on_error: Any = ReactiveTest.on_error
EVENT, LAST = ServerSentEvent(data=A), ServerSentEvent(data=DONE)


def test_it_completes_when_the_body_ends_after_done(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(
        on_next(10, EVENT), on_next(20, LAST), on_completed(20.125)
    )
    assert happen(source, scheduler) == [(210, "N"), (220.125, "C")]
    assert len(source.subscriptions) == 1


def test_it_completes_a_quarter_of_a_second_after_done_where_the_body_stays_open(
    scheduler: TestScheduler,
) -> None:
    source = scheduler.create_cold_observable(
        on_next(10, EVENT), on_next(20, LAST), on_next(20.125, EVENT), on_next(20.2, LAST)
    )
    assert happen(source, scheduler) == [(210, "N"), (220.25, "C")]
    assert source.subscriptions == [Subscription(200, 220)]


def test_a_break_after_done_completes_it_at_once(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(20, LAST), on_error(20.125, DROPPED))
    assert happen(source, scheduler) == [(220.125, "C")]


def test_it_completes_a_quarter_of_a_second_after_the_finish_reason(
    scheduler: TestScheduler,
) -> None:
    last = ServerSentEvent(data=STOP)
    source = scheduler.create_cold_observable(
        on_next(10, last), on_next(10.125, EVENT), on_next(10.2, last), on_next(11, EVENT)
    )
    expected = [(210, "N"), (210.125, "N"), (210.2, "N"), (210.25, "C")]
    assert happen(source, scheduler) == expected
    assert source.subscriptions == [Subscription(200, 210)]


def test_the_end_of_one_of_two_answers_is_not_the_end(scheduler: TestScheduler) -> None:
    one, two = (ServerSentEvent(data=data) for data in (STOP, other("b")))
    both = ServerSentEvent(data=other("", "stop"))
    source = scheduler.create_cold_observable(on_next(10, two), on_next(20, one), on_next(30, both))
    assert happen(source, scheduler) == [(210, "N"), (220, "N"), (230, "N"), (230.25, "C")]


def test_an_answer_that_begins_after_another_has_finished_is_waited_for(
    scheduler: TestScheduler,
) -> None:
    first, second, last = (
        ServerSentEvent(data=data) for data in (STOP, other("b"), other("", "stop"))
    )
    source = scheduler.create_cold_observable(
        on_next(10, first), on_next(10.125, second), on_next(30, last)
    )
    assert happen(source, scheduler) == [(210, "N"), (210.125, "N"), (230, "N"), (230.25, "C")]


def test_an_event_that_is_being_taken_when_the_time_is_up_comes_before_the_end() -> None:
    source: Subject[ServerSentEvent] = Subject()
    taking, ended, got = threading.Event(), threading.Event(), list[object]()

    def take(item: CompletionEvent) -> None:
        if got:
            taking.set()
            assert not ended.wait(0.5), "it must not end while an item is taken"
        got.append(item)

    source.pipe(completions()).subscribe(take, on_completed=ended.set)
    source.on_next(ServerSentEvent(data=STOP))
    source.on_next(EVENT)
    assert len(got) == 2
    assert ended.wait(10)


def test_disposed_after_done_it_never_completes(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(20, LAST))
    assert happen(source, scheduler, disposed=220.125) == []


def test_without_a_scheduler_a_timer_of_its_own_completes_it() -> None:
    source: Subject[ServerSentEvent] = Subject()
    completed = threading.Event()
    source.pipe(completions()).subscribe(on_completed=completed.set)
    source.on_next(LAST)
    assert not completed.is_set()
    assert completed.wait(60)
    assert not source.observers


# --- what must survive -----------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    ["null", '""', "[]", "true", "0", "ping", ": PROCESSING", '"[DONE]"', "[1", "NaN", " \n",
     '{"choices":[null]}', '{"choices":[1,"x"]}', '{"type":"ping"}', '{"type":"keep-alive","message":"hi"}'],
)  # fmt: skip
def test_what_is_not_an_object_or_keeps_the_connection_open_is_skipped(data: str) -> None:
    assert summary(collect(those(A, data, A, DONE))) == ["a", "a", "end"]


@pytest.mark.parametrize("name", ["ping", "keepalive", "keep-alive", "heartbeat", "Heart_Beat"])
@pytest.mark.parametrize("data", ["2026-11-30", "{}", "{", '{"message":"here"}', '{"choices":[]}', "[]"])  # fmt: skip
def test_an_event_named_as_a_keep_alive_is_skipped(name: str, data: str) -> None:
    keep_alive = ServerSentEvent(event=name, data=data)
    assert summary(collect(those(A, keep_alive, A, DONE))) == ["a", "a", "end"]


def test_a_chunk_counts_whatever_its_event_is_named() -> None:
    assert summary(collect(those(ServerSentEvent(event="ping", data=A), DONE))) == ["a", "end"]


@pytest.mark.parametrize(
    ("wrong", "at", "read"),
    [
        ('"created":"2026-11-30"', "created", None),
        ('"created":"17"', "created", 17),
        ('"id":5', "id", None),
        ('"model":{}', "model", None),
        ('"object":[]', "object", None),
        ('"usage":[]', "usage", None),
        ('"usage":"none"', "usage", None),
        ('"usage":{"completion_tokens":2.5,"total_tokens":3}', "usage.total_tokens", 3),
        ('"usage":{"completion_tokens":2.5,"total_tokens":3}', "usage.completion_tokens", None),
        ('"usage":{"total_tokens":"many","new":1}', "usage.additional_properties", {"new": 1}),
    ],
)
def test_a_wrong_type_beside_the_text_is_none_and_the_text_is_kept(
    wrong: str, at: str, read: object
) -> None:
    value: Any = first(A[:-1] + "," + wrong + "}")
    assert value.choices[0].delta.content == "a"
    for name in at.split("."):
        value = getattr(value, name)
    assert value == read


@pytest.mark.parametrize(
    ("choice", "delta"),
    [
        ('"finish_reason":1', ""), ('"finish_reason":{"type":"stop"}', ""), ('"logprobs":NaN', ""),
        ('"logprobs":"none"', ""), ('"logprobs":{"content":{}}', ""), ('"prompt_logprobs":7', ""),
        ('"logprobs":{"content":[{"token":1,"logprob":"low","top_logprobs":[7]}]}', ""),
        ('"index":"first"', ""), ('"index":[]', ""), ("", '"role":7'), ("", '"tool_calls":{}'),
        ("", '"tool_calls":[null,7]'), ("", '"metadata":"x"'), ("", '"index":1.5'),
    ],
)  # fmt: skip
def test_a_wrong_type_in_a_choice_leaves_the_text_alone(choice: str, delta: str) -> None:
    choice, delta = (f",{each}" if each else "" for each in (choice, delta))
    data = f'{{"choices":[{{"delta":{{"content":"a"{delta}}}{choice}}}]}}'
    assert summary(collect(those(data, DONE))) == ["a", "end"]


def test_of_a_tool_call_is_kept_what_can_be_read() -> None:
    call = '{"id":5,"index":"1","type":[],"function":{"name":"f","arguments":"{}","x":1}}'
    delta = first(f'{{"choices":[{{"delta":{{"tool_calls":[null,{call}]}}}}]}}').choices[0].delta
    function = FunctionCall(name="f", arguments="{}")
    assert delta.tool_calls == [ToolCall(index=1, function=function)]


@pytest.mark.parametrize(
    ("content", "read"),
    [("1", "1"), ("true", "true"), ("2.5", "2.5"), ("1e3", "1000.0"),
     ('{"type":"text","text":"a"}', [TextChunk(text="a")]),
     ('[{"type":"text","text":1}]', [TextChunk(text="1")]),
     ('[{"type":"thinking","thinking":["a"],"closed":"yes","signature":"s"}]',
      [ThinkChunk(thinking=[TextChunk(text="a")], signature="s")])],
)  # fmt: skip
def test_a_content_of_another_type_is_the_text_that_it_holds(content: str, read: object) -> None:
    data = f'{{"choices":[{{"delta":{{"content":{content}}}}}]}}'
    assert first(data).choices[0].delta.content == read


# --- reasoning in keys of its own, and whole messages ------------------------------

HM = ThinkChunk(thinking=[TextChunk(text="hm")])


@pytest.mark.parametrize(
    ("delta", "content"),
    [
        ({"reasoning_content": "hm"}, [HM]),
        ({"reasoning": "hm"}, [HM]),
        ({"reasoning": "hm", "reasoning_content": "hm"}, [HM]),
        ({"reasoning": "hm ", "reasoning_content": "hm"}, [ThinkChunk(thinking=[TextChunk(text="hm ")])]),
        ({"reasoning": "b", "reasoning_content": "a"}, [ThinkChunk(thinking=[TextChunk(text="ab")])]),
        ({"reasoning": "hm", "reasoning_content": None, "content": None}, [HM]),
        ({"reasoning": "hm", "reasoning_content": "", "content": ""}, [HM]),
        ({"reasoning": "hm", "content": "a"}, [HM, TextChunk(text="a")]),
        ({"reasoning": "hm", "content": 1}, [HM, TextChunk(text="1")]),
        ({"reasoning": "hm", "content": [{"type": "text", "text": "a"}]}, [HM, TextChunk(text="a")]),
        ({"reasoning": "hm", "content": [{"type": "thinking", "thinking": ["hm"]}]}, [HM]),
        ({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}, [HM]),
        ({"reasoning": [{"type": "text", "text": "hm"}]}, [HM]),
        ({"reasoning": {"content": "hm"}}, [HM]),
        ({"reasoning": None, "reasoning_content": "", "content": "a"}, "a"),
        ({"reasoning": {"effort": "high"}, "content": "a"}, "a"),
        ({"reasoning": 7, "content": "a"}, "a"),
        ({"content": 'the "reasoning" of it'}, 'the "reasoning" of it'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("more", [{}, {"created": "today"}, {"usage": {"total_tokens": 1}}])
@pytest.mark.parametrize("way", ["whole", "short"])
def test_reasoning_in_a_key_of_its_own_is_thinking(
    delta: dict[str, Any], content: object, more: dict[str, Any], way: str
) -> None:
    data = json.dumps({"choices": [{"index": 0, "delta": delta}], **more})
    assert by_way(way, A, data)[1].data.choices[0].delta.content == content


def by_way(way: str, *data: str) -> list[Any]:
    """What is decoded of these events, on the way from blocks or from events."""
    if way == "whole":
        return collect(those(*data, DONE))
    blocks = reactivex.of(*(f"data: {each}\n\n".encode() for each in (*data, DONE)))
    decoder = CompletionDecoder(CompletionAccumulator())
    piped = blocks.pipe(
        completions_of_blocks(lambda: decoder, max_bytes=10_000, accept_clean_end=False)
    )
    return list(piped)


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_an_emoji_that_is_cut_in_reasoning_comes_out_whole(key: str) -> None:
    got = run(chunk({key: "a" + HIGH}), chunk({key: LOW + "b"}), chunk({}, finish="stop"))
    assert got == {0: "a😀b"}


@pytest.mark.parametrize(
    ("choice", "content"),
    [
        ({"message": {"content": "a"}}, "a"),
        ({"message": {"content": "a"}, "delta": None}, "a"),
        ({"message": {"content": "a"}, "delta": {"role": "assistant", "content": ""}}, "a"),
        ({"message": {"content": "a", "reasoning_content": "hm"}}, [HM, TextChunk(text="a")]),
        ({"message": {"content": [{"type": "text", "text": "a"}]}}, [TextChunk(text="a")]),
        ({"message": {"content": "ab"}, "delta": {"content": "b"}}, "b"),
        ({"message": "x", "delta": {"content": "b"}}, "b"),
    ],
)
@pytest.mark.parametrize("way", ["whole", "short"])
def test_a_whole_message_is_a_delta(choice: dict[str, Any], content: object, way: str) -> None:
    data = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", **choice}]})
    role = json.dumps(chunk({"role": "assistant", "content": ""}))
    assert by_way(way, role, data)[1].data.choices[0].delta.content == content


def test_a_whole_message_has_its_tool_calls() -> None:
    call = {"id": "c1", "function": {"name": "f", "arguments": "{}"}}
    message = {"content": None, "tool_calls": [call]}
    [read] = first(json.dumps({"choices": [{"message": message}]})).choices[0].delta.tool_calls
    assert (read.id, read.function.name) == ("c1", "f")


@pytest.mark.parametrize("way", ["whole", "short"])
def test_a_message_that_repeats_the_deltas_before_it_is_not_told_again(way: str) -> None:
    last = {"index": 0, "delta": {}, "message": {"content": "a"}, "finish_reason": "stop"}
    got = by_way(way, A, json.dumps({"choices": [last]}))
    assert [each.data.choices[0].delta.content for each in got[:2]] == ["a", None]


def first(data: str) -> Any:
    item = collect(those(data))[0]
    assert isinstance(item, CompletionEvent), item
    return item.data


@pytest.mark.parametrize(
    "data",
    [
        "{}",
        '{"choices":[]}',
        '{"choices":null}',
        '{"choices":[{"delta":null}]}',
        '{"choices":[{}]}',
        '{"choices":[{"delta":{"tool_calls":[{"function":null}]}}]}',
        '{"choices":[],"usage":null}',
        '{"choices":[],"error":null}',
        '{"choices":[],"x":NaN,"y":-Infinity}',
        '{"choices":[],"x":"\\ud83d"}',
        '{"choices":[],"created":' + 30 * "9" + "}",
        '{"choices":[{"index":0,"delta":{"content":[{"type":["a"]}]}}]}',
        ' {"choices":[]} ',
    ],
)
def test_an_odd_chunk_is_a_chunk(data: str) -> None:
    first(data)


@pytest.mark.parametrize(
    "odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x00", "\x1f", "\t", "\x7f", "\ufeff"]
)
def test_text_holds_raw_characters_that_json_or_others_forbid(odd: str) -> None:
    body = f'data: {{"choices":[{{"delta":{{"content":"a{odd}b"}}}}]}}\n\ndata: [DONE]\n\n'
    got: list[str] = []
    pipe = (lines(), events(), completions(), text())
    reactivex.of(body.encode()).pipe(*pipe).subscribe(got.append)
    assert got == [f"a{odd}b"]


def test_a_number_that_is_none_is_no_error() -> None:
    token = '{"token":"a","logprob":NaN}'
    chunk = first(f'{{"choices":[{{"delta":{{}},"logprobs":{{"content":[{token}]}}}}]}}')
    assert str(chunk.choices[0].logprobs.content[0].logprob) == "nan"


def test_chunks_of_one_stream_may_differ_in_everything() -> None:
    stream = those(
        '{"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}',
        '{"id":"2","choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}',
        '{"id":"3","choices":[{"index":0,"delta":{"content":[{"type":"text","text":"b"}]}}]}',
        '{"choices":[],"created":1787865810123}',
        '{"choices":[{"index":0,"delta":{"content":null,"tool_calls":null}}]}',
        '{"choices":[{"index":4,"delta":{"content":"c"},"finish_reason":"stop"}]}',
        DONE,
    )
    assert list(stream.pipe(completions(), text())) == ["a", "b"]


@pytest.mark.parametrize(
    "rest",
    [
        "",
        ',"x":NaN',
        ',"x":"\\ud83d"',
        ',"x":"a\x01b"',
        ',"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]',
        ',"choices":[{"index":0,"delta":{"content":"a\x01b"},"finish_reason":"stop"}]',
    ],
)
def test_the_details_of_the_usage_are_kept_whatever_comes_with_them(rest: str) -> None:
    details = '"prompt_tokens_details":{"cached_tokens":0},"service_tier":"standard","novel":[1]'
    usage = first(f'{{"usage":{{"total_tokens":21,{details}}}{rest}}}').usage
    assert (usage.total_tokens, usage.service_tier) == (21, "standard")
    assert usage.additional_properties == {
        "prompt_tokens_details": {"cached_tokens": 0},
        "novel": [1],
    }
    assert usage.novel == [1]


@pytest.mark.parametrize(("written", "read"), [("NaN", "nan"), ('"\\ud83d"', "\ufffd"), ('"\x01"', "\x01")])  # fmt: skip
def test_a_detail_of_the_usage_may_itself_be_odd(written: str, read: str) -> None:
    assert str(first(f'{{"usage":{{"total_tokens":21,"novel":{written}}}}}').usage.novel) == read


@pytest.mark.parametrize("depth", [50, 500, 5000, 200_000])
@pytest.mark.parametrize(
    "nest",
    [
        lambda n: '{"x":' * n + "1" + "}" * n,
        lambda n: "[" * n + "]" * n,
        lambda n: '{"error":' * n + '"x"' + "}" * n,
        lambda n: (
            '{"choices":[{"delta":{"content":['
            + '{"type":"thinking","thinking":[' * n
            + "]}" * n
            + "]}}]}"
        ),
    ],
)
def test_no_depth_of_nesting_raises_anything_else(nest: Callable[[int], str], depth: int) -> None:
    with suppress(StreamError):
        CompletionDecoder(CompletionAccumulator()).feed(ServerSentEvent(data=nest(depth)))


WORDS = st.sampled_from(
    ["choices", "delta", "index", "content", "type", "text", "thinking", "tool_calls", "function",
     "arguments", "finish_reason", "usage", "total_tokens", "logprobs", "error", "message", "stop",
     "object", "a", "\ud83d", "\ude00", ""]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
CHUNKS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4)
)


def in_a_choice(value: object) -> object:
    return {"choices": [{"delta": {"content": value, "tool_calls": value}, "index": value}]}


@no_deadline
@given(st.lists(CHUNKS | CHUNKS.map(in_a_choice), max_size=4))
@example([{"choices": [{"index": [1], "delta": {"content": "\ud83d"}}]}])
@example([{"choices": [{"delta": {"tool_calls": [{"index": [1], "function": {"arguments": "\ud83d"}}]}}]}])  # fmt: skip
@example([{"choices": [{"delta": {"content": "\ud83d"}}]}, {"choices": [{"finish_reason": "x", "delta": []}]}])  # fmt: skip
def test_no_json_makes_the_decoder_raise_anything_but_its_errors(values: list[object]) -> None:
    decoder = CompletionDecoder(CompletionAccumulator())
    for value in values:
        try:
            decoder.feed(ServerSentEvent(data=json.dumps(value)))
        except StreamError as error:
            str(error).encode("utf-8", "surrogatepass")


# --- emojis cut in two -----------------------------------------------------------

HIGH, LOW = "\ud83d", "\ude00"

SHAPES: dict[str, Callable[[str], dict[str, Any]]] = {
    "string": lambda part: {"content": part},
    "list": lambda part: {"content": [{"type": "text", "text": part}]},
    "bare string in a list": lambda part: {"content": [part]},
    "parts": lambda part: {
        "content": [{"type": "text", "text": each} for each in (part[:1], part[1:])]
    },
    "beside a thought": lambda part: {
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


def gathered(content: Any) -> str:
    """All text in a content, thoughts included, but for those that every delta repeats."""
    if isinstance(content, str):
        return content
    parts = ""
    for part in content or []:
        if isinstance(part, TextChunk):
            parts += part.text
        elif isinstance(part, ThinkChunk):
            thought = gathered(part.thinking)
            parts += "" if thought == "hm" else thought
    return parts


def gathered_calls(calls: list[ToolCall] | None) -> str:
    return "".join(
        call.function.arguments for call in calls or [] if isinstance(call.function.arguments, str)
    )


def run(*chunks: dict[str, Any]) -> dict[int, str]:
    """All text of an answer, by choice; the chunks come as JSON with escapes."""
    decoder = CompletionDecoder(CompletionAccumulator())
    got: dict[int, str] = {}
    for chunk in chunks:
        completion = decoder.feed(ServerSentEvent(data=json.dumps(chunk)))
        assert completion is not None
        for choice in completion.data.choices:
            index = choice.index or 0
            got[index] = got.get(index, "") + gathered(choice.delta.content)
            got[index] += gathered_calls(choice.delta.tool_calls)
    assert not decoder._surrogates.waiting, "what waits makes all that follows slow"
    return got


def chunk(delta: dict[str, Any], index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def replaced(units: str) -> str:
    """What UTF-16 makes of the code units, put together."""
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
def test_text_cut_anywhere_comes_out_whole(
    shape: Callable[[str], dict[str, Any]], stop: dict[str, Any], parts: list[str]
) -> None:
    last = {"choices": [{"index": 0, "finish_reason": "stop", **stop}]}
    got = run(*(chunk(shape(part)) for part in parts), last)
    whole = replaced("".join(parts))
    if gathered_by_content(shape) or not "\ud800" <= "".join(parts)[-1:] <= "\udbff":
        assert got == {0: whole}
    else:  # of a thought or of arguments that were cut short, the lone half is dropped
        assert got == {0: whole.removesuffix("\ufffd")}


def gathered_by_content(shape: Callable[[str], dict[str, Any]]) -> bool:
    return shape not in (
        SHAPES["thinking"],
        SHAPES["arguments"],
        SHAPES["arguments of the second call"],
    )


@no_deadline
@given(parts=st.lists(st.tuples(st.integers(0, 2), UNITS), max_size=10))
def test_the_halves_of_interleaved_answers_do_not_mix(parts: list[tuple[int, str]]) -> None:
    stops = [chunk({"content": ""}, index, "stop") for index in range(3)]
    got = run(*(chunk({"content": units}, index) for index, units in parts), *stops)
    for choice in range(3):
        assert got[choice] == replaced("".join(units for index, units in parts if index == choice))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_half_in_the_finishing_chunk_is_kept(shape: Callable[[str], dict[str, Any]]) -> None:
    last = chunk(shape("a" + HIGH), finish="length")
    assert run(last) == {0: "a\ufffd"}
    assert run(chunk(shape(HIGH)), chunk(shape(LOW), finish="stop")) == {0: "😀"}


def test_a_half_left_at_the_end_leaves_what_else_is_there_alone() -> None:
    decoder = CompletionDecoder(CompletionAccumulator())
    decoder.feed(ServerSentEvent(data=delta(HIGH)))
    last = decoder.feed(ServerSentEvent(data=delta([{"type": "file", "file_id": "f"}], "stop")))
    assert last is not None
    content: Any = last.data.choices[0].delta.content
    assert content == [FileChunk(file_id="f"), TextChunk(text="\ufffd")]


def test_text_a_thought_and_arguments_are_joined_each_with_its_own() -> None:
    shapes = [SHAPES["string"], SHAPES["thinking"], SHAPES["arguments"]]
    got = run(
        *(chunk(shape(HIGH)) for shape in shapes),
        *(chunk(shape(LOW)) for shape in shapes),
        chunk({}, finish="stop"),
    )
    assert got == {0: "😀😀😀"}


def test_a_call_without_index_is_whole_and_never_joined_to_another() -> None:
    call = {"function": {"arguments": "a" + HIGH}}
    other = {"function": {"arguments": LOW + "b"}}
    assert run(chunk({"tool_calls": [call, other]})) == {0: "a\ufffd\ufffdb"}
    assert run(chunk({"tool_calls": [call]}), chunk({"tool_calls": [other]})) == {0: "a\ufffd\ufffdb"}  # fmt: skip


def test_an_arguments_object_may_hold_a_half() -> None:
    data = chunk(
        {"tool_calls": [{"index": 0, "function": {"arguments": {HIGH: [LOW, HIGH + LOW]}}}]}
    )
    calls = first(json.dumps(data)).choices[0].delta.tool_calls
    assert calls[0].function.arguments == {"\ufffd": ["\ufffd", "😀"]}


def test_a_half_in_an_unknown_kind_of_content_does_not_end_the_stream() -> None:
    content = first(json.dumps(chunk({"content": [{"type": "novel", "x": HIGH}]})))
    assert content.choices[0].delta.content == [
        UnknownContentChunk({"type": "novel", "x": "\ufffd"})
    ]


def test_whole_emojis_never_wait() -> None:
    assert run(chunk({"content": "😀"}), chunk({"content": HIGH + LOW})) == {0: "😀😀"}


def test_each_subscription_joins_its_own_halves() -> None:
    source: Subject[ServerSentEvent] = Subject()
    piped = source.pipe(completions(), text())
    one: list[str] = []
    two: list[str] = []
    piped.subscribe(one.append)
    source.on_next(ServerSentEvent(data=delta(HIGH)))
    piped.subscribe(two.append)
    source.on_next(ServerSentEvent(data=delta(LOW)))
    assert (one, two) == (["😀"], ["\ufffd"])
