"""Events to completions: every ending, and chunks that deviate from the API."""

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
    FunctionCall,
    IncompleteStreamError,
    ReportedError,
    StreamError,
    TextChunk,
    ThinkChunk,
    ToolCall,
    completions,
    text,
)
from rxmistral.completions.accumulator import CompletionAccumulator
from rxmistral.completions.decoding import CompletionDecoder
from rxmistral.completions.fast_path import completions_of_blocks
from rxmistral.wire import ServerSentEvent, events, lines

no_deadline = settings(deadline=None)  # a loaded machine is not a defect

DROPPED = DroppedStreamError("reset")
DONE = "[DONE]"


def delta(content: object, finish: str | None = None, **rest: object) -> str:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return json.dumps({"choices": [choice], **rest})


def collect(source: Observable[ServerSentEvent], **options: bool) -> list[object]:
    """Returns what completions() emits, the terminal last."""
    got: list[object] = []
    source.pipe(completions(**options)).subscribe(got.append, got.append, lambda: got.append("end"))
    return got


def of_second_answer(content: str, finish: str | None = None) -> str:
    """Returns the data of a chunk of the second answer."""
    return delta(content, finish).replace('"index": 0', '"index": 1')


def events_of(*data: str | ServerSentEvent) -> Observable[ServerSentEvent]:
    return reactivex.from_iterable(
        each if isinstance(each, ServerSentEvent) else ServerSentEvent(data=each) for each in data
    )


def broken_events_of(*data: str | ServerSentEvent) -> Observable[ServerSentEvent]:
    return reactivex.concat(events_of(*data), reactivex.throw(DROPPED))


def summary(got: list[object]) -> list[object]:
    """Returns completions by their content, errors by their type."""
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
        (events_of(A, STOP, DONE), ["a", "", "end"]),
        (events_of(A, DONE), ["a", "end"]),
        (events_of(A, STOP), ["a", "", "end"]),
        (events_of(A, STOP, USAGE), ["a", "", CompletionEvent, "end"]),
        (events_of(A, STOP, USAGE, DONE), ["a", "", CompletionEvent, "end"]),
        (events_of(DONE), ["end"]),
        (events_of(A, " [DONE] "), ["a", "end"]),
        # after [DONE] nothing belongs to this answer
        (events_of(A, DONE, A, STOP, DONE), ["a", "end"]),
        (events_of(A, DONE, "nonsense"), ["a", "end"]),
        (events_of(A, DONE, '{"error":"x"}'), ["a", "end"]),
        (events_of(A, DONE, ServerSentEvent(event="error", data="x")), ["a", "end"]),
        (broken_events_of(A, DONE), ["a", "end"]),
        (broken_events_of(A, STOP), ["a", "", "end"]),
        (broken_events_of(A, STOP, USAGE), ["a", "", CompletionEvent, "end"]),
        (events_of(A, STOP, A, STOP, DONE), ["a", "", "a", "", "end"]),
        (events_of(A, STOP, '{"error":"x"}'), ["a", "", ReportedError]),
        (
            broken_events_of(delta("a", "stop"), of_second_answer("b")),
            ["a", "b", DroppedStreamError],
        ),
        (
            broken_events_of(
                delta("a", "stop"), of_second_answer("b"), of_second_answer("", "stop")
            ),
            ["a", "b", "", "end"],
        ),
        # truncated
        (events_of(), [IncompleteStreamError]),
        (events_of(A), ["a", IncompleteStreamError]),
        (events_of(A, USAGE), ["a", CompletionEvent, IncompleteStreamError]),
        (events_of(A, delta("", "")), ["a", "", IncompleteStreamError]),
        # dropped
        (broken_events_of(), [DroppedStreamError]),
        (broken_events_of(A), ["a", DroppedStreamError]),
        (broken_events_of(A, delta("b", "error")), ["a", "b", ReportedError]),
        # reported
        (events_of(A, delta("b", "error"), DONE), ["a", "b", ReportedError]),
        (events_of(A, '{"object":"error","message":"x"}', DONE), ["a", ReportedError]),
        (events_of(A, '{"error":{"message":"x"}}'), ["a", ReportedError]),
        (events_of(A, '{"error":"x"}'), ["a", ReportedError]),
        (events_of(A, '{"choices":[],"error":"x"}'), ["a", ReportedError]),
        (events_of(A, '{"error":"x","choices":"none"}'), ["a", ReportedError]),
        (events_of(A, '{"error":"x","id":7}'), ["a", ReportedError]),
        (events_of(A, '{"detail":"x"}'), ["a", ReportedError]),
        (events_of(A, '{"message":"x"}'), ["a", ReportedError]),
        (
            events_of(A, delta("b")[:-1] + ',"error":{"message":"x"}}', DONE),
            ["a", "b", ReportedError],
        ),
        (events_of(delta('"error": is a word'), STOP, DONE), ['"error": is a word', "", "end"]),
        (
            events_of(A, ServerSentEvent(event="error", data='{"message":"x"}')),
            ["a", ReportedError],
        ),
        (events_of(A, ServerSentEvent(event="error", data=A)), ["a", ReportedError]),
        (events_of(A, ServerSentEvent(event="error")), ["a", ReportedError]),
        # not a chunk
        (events_of(A, A[:-1], A), ["a", ChunkError]),
        (events_of(A, "{nonsense}"), ["a", ChunkError]),
        (events_of(A, ServerSentEvent(event="chunk", data=A[:-1])), ["a", ChunkError]),
        # nothing at all
        (events_of("", " ", "\n", DONE), ["end"]),
    ],
)
def test_completions_end_as_the_answer_ended(
    source: Observable[ServerSentEvent], expected: list[object]
) -> None:
    assert summary(collect(source)) == expected


def test_accept_clean_end_completes_after_output() -> None:
    assert summary(collect(events_of(A), accept_clean_end=True)) == ["a", "end"]
    assert summary(collect(events_of(), accept_clean_end=True)) == [IncompleteStreamError]
    assert summary(collect(events_of(delta("")), accept_clean_end=True)) == [
        "",
        IncompleteStreamError,
    ]
    assert summary(collect(broken_events_of(A), accept_clean_end=True)) == ["a", DroppedStreamError]
    assert summary(collect(events_of('{"error":"x"}'), accept_clean_end=True)) == [ReportedError]


@pytest.mark.parametrize(
    ("event", "report"),
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
def test_reported_error_has_the_message_of_the_server(
    event: ServerSentEvent, report: tuple[str, str | None, str | None]
) -> None:
    error = collect(events_of(event))[-1]
    assert isinstance(error, ReportedError)
    assert (error.message, error.type, error.code) == report
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_chunk_error_names_the_column_and_has_the_data() -> None:
    data = '{"choices":[{"index":'
    [error] = collect(events_of(data))
    assert isinstance(error, ChunkError)
    assert error.data == data
    assert "column 22" in error.reason
    assert error.__cause__ is not None


def test_nothing_is_emitted_after_an_error() -> None:
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


def timeline(
    source: Observable[ServerSentEvent], scheduler: TestScheduler, **at: float
) -> list[Any]:
    result = scheduler.start(lambda: source.pipe(completions()), **at)
    messages: list[Any] = result.messages
    return [(message.time, message.value.kind) for message in messages]


# Typed for whole ticks, which are seconds here; fractions work, too.
on_next: Any = ReactiveTest.on_next
on_completed: Any = ReactiveTest.on_completed
on_error: Any = ReactiveTest.on_error
EVENT, LAST = ServerSentEvent(data=A), ServerSentEvent(data=DONE)


def test_completes_when_the_body_ends_after_done(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(
        on_next(10, EVENT), on_next(20, LAST), on_completed(20.125)
    )
    assert timeline(source, scheduler) == [(210, "N"), (220.125, "C")]
    assert len(source.subscriptions) == 1


def test_completes_250_ms_after_done_when_the_body_stays_open(
    scheduler: TestScheduler,
) -> None:
    source = scheduler.create_cold_observable(
        on_next(10, EVENT), on_next(20, LAST), on_next(20.125, EVENT), on_next(20.2, LAST)
    )
    assert timeline(source, scheduler) == [(210, "N"), (220.25, "C")]
    assert source.subscriptions == [Subscription(200, 220)]


def test_completes_at_once_when_the_body_breaks_after_done(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(20, LAST), on_error(20.125, DROPPED))
    assert timeline(source, scheduler) == [(220.125, "C")]


def test_completes_250_ms_after_the_finish_reason(
    scheduler: TestScheduler,
) -> None:
    last = ServerSentEvent(data=STOP)
    source = scheduler.create_cold_observable(
        on_next(10, last), on_next(10.125, EVENT), on_next(10.2, last), on_next(11, EVENT)
    )
    expected = [(210, "N"), (210.125, "N"), (210.2, "N"), (210.25, "C")]
    assert timeline(source, scheduler) == expected
    assert source.subscriptions == [Subscription(200, 210)]


def test_does_not_complete_when_one_of_two_answers_ends(scheduler: TestScheduler) -> None:
    one, two = (ServerSentEvent(data=data) for data in (STOP, of_second_answer("b")))
    both = ServerSentEvent(data=of_second_answer("", "stop"))
    source = scheduler.create_cold_observable(on_next(10, two), on_next(20, one), on_next(30, both))
    assert timeline(source, scheduler) == [(210, "N"), (220, "N"), (230, "N"), (230.25, "C")]


def test_waits_for_an_answer_that_begins_after_another_ended(
    scheduler: TestScheduler,
) -> None:
    first, second, last = (
        ServerSentEvent(data=data)
        for data in (STOP, of_second_answer("b"), of_second_answer("", "stop"))
    )
    source = scheduler.create_cold_observable(
        on_next(10, first), on_next(10.125, second), on_next(30, last)
    )
    assert timeline(source, scheduler) == [(210, "N"), (210.125, "N"), (230, "N"), (230.25, "C")]


def test_completion_waits_for_a_running_callback() -> None:
    source: Subject[ServerSentEvent] = Subject()
    item_running, ended, got = threading.Event(), threading.Event(), list[object]()

    def collect_slowly(item: CompletionEvent) -> None:
        if got:
            item_running.set()
            assert not ended.wait(0.5), "it must not end while a callback runs"
        got.append(item)

    source.pipe(completions()).subscribe(collect_slowly, on_completed=ended.set)
    source.on_next(ServerSentEvent(data=STOP))
    source.on_next(EVENT)
    assert len(got) == 2
    assert ended.wait(10)


def test_never_completes_when_disposed_after_done(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(20, LAST))
    assert timeline(source, scheduler, disposed=220.125) == []


def test_default_scheduler_completes_it() -> None:
    source: Subject[ServerSentEvent] = Subject()
    completed = threading.Event()
    source.pipe(completions()).subscribe(on_completed=completed.set)
    source.on_next(LAST)
    assert not completed.is_set()
    assert completed.wait(60)
    assert not source.observers


# --- deviations from the API -----------------------------------------------------


@pytest.mark.parametrize(
    "data",
    ["null", '""', "[]", "true", "0", "ping", ": PROCESSING", '"[DONE]"', "[1", "NaN", " \n",
     '{"choices":[null]}', '{"choices":[1,"x"]}', '{"type":"ping"}', '{"type":"keep-alive","message":"hi"}'],
)  # fmt: skip
def test_keep_alives_and_non_objects_are_skipped(data: str) -> None:
    assert summary(collect(events_of(A, data, A, DONE))) == ["a", "a", "end"]


@pytest.mark.parametrize("name", ["ping", "keepalive", "keep-alive", "heartbeat", "Heart_Beat"])
@pytest.mark.parametrize("data", ["2026-11-30", "{}", "{", '{"message":"here"}', '{"choices":[]}', "[]"])  # fmt: skip
def test_event_with_a_keep_alive_type_is_skipped(name: str, data: str) -> None:
    keep_alive = ServerSentEvent(event=name, data=data)
    assert summary(collect(events_of(A, keep_alive, A, DONE))) == ["a", "a", "end"]


def test_chunk_is_decoded_whatever_its_event_type() -> None:
    assert summary(collect(events_of(ServerSentEvent(event="ping", data=A), DONE))) == ["a", "end"]


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
def test_field_of_a_wrong_type_is_none_and_text_is_kept(wrong: str, at: str, read: object) -> None:
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
def test_choice_field_of_a_wrong_type_leaves_the_text(choice: str, delta: str) -> None:
    choice, delta = (f",{each}" if each else "" for each in (choice, delta))
    data = f'{{"choices":[{{"delta":{{"content":"a"{delta}}}{choice}}}]}}'
    assert summary(collect(events_of(data, DONE))) == ["a", "end"]


def test_readable_fields_of_a_tool_call_are_kept() -> None:
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
def test_content_of_another_type_becomes_text(content: str, read: object) -> None:
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
@pytest.mark.parametrize("path", ["slow", "fast"])
def test_reasoning_in_its_own_key_becomes_thinking(
    delta: dict[str, Any], content: object, more: dict[str, Any], path: str
) -> None:
    data = json.dumps({"choices": [{"index": 0, "delta": delta}], **more})
    assert decoded_by(path, A, data)[1].data.choices[0].delta.content == content


def decoded_by(path: str, *data: str) -> list[Any]:
    """Returns the completions of these events, decoded from blocks or from events."""
    if path == "slow":
        return collect(events_of(*data, DONE))
    blocks = reactivex.of(*(f"data: {each}\n\n".encode() for each in (*data, DONE)))
    decoder = CompletionDecoder(CompletionAccumulator())
    piped = blocks.pipe(
        completions_of_blocks(lambda: decoder, max_bytes=10_000, accept_clean_end=False)
    )
    return list(piped)


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
@pytest.mark.parametrize("path", ["slow", "fast"])
def test_whole_message_becomes_a_delta(choice: dict[str, Any], content: object, path: str) -> None:
    data = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", **choice}]})
    role = json.dumps({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    assert decoded_by(path, role, data)[1].data.choices[0].delta.content == content


def test_whole_message_keeps_its_tool_calls() -> None:
    call = {"id": "c1", "function": {"name": "f", "arguments": "{}"}}
    message = {"content": None, "tool_calls": [call]}
    [read] = first(json.dumps({"choices": [{"message": message}]})).choices[0].delta.tool_calls
    assert (read.id, read.function.name) == ("c1", "f")


@pytest.mark.parametrize("path", ["slow", "fast"])
def test_message_that_repeats_earlier_deltas_is_ignored(path: str) -> None:
    last = {"index": 0, "delta": {}, "message": {"content": "a"}, "finish_reason": "stop"}
    got = decoded_by(path, A, json.dumps({"choices": [last]}))
    assert [each.data.choices[0].delta.content for each in got[:2]] == ["a", None]


def first(data: str) -> Any:
    item = collect(events_of(data))[0]
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
def test_odd_chunk_is_decoded(data: str) -> None:
    first(data)


@pytest.mark.parametrize(
    "odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x00", "\x1f", "\t", "\x7f", "\ufeff"]
)
def test_raw_control_characters_are_kept_in_text(odd: str) -> None:
    body = f'data: {{"choices":[{{"delta":{{"content":"a{odd}b"}}}}]}}\n\ndata: [DONE]\n\n'
    got: list[str] = []
    pipe = (lines(), events(), completions(), text())
    reactivex.of(body.encode()).pipe(*pipe).subscribe(got.append)
    assert got == [f"a{odd}b"]


def test_nan_is_not_an_error() -> None:
    token = '{"token":"a","logprob":NaN}'
    chunk = first(f'{{"choices":[{{"delta":{{}},"logprobs":{{"content":[{token}]}}}}]}}')
    assert str(chunk.choices[0].logprobs.content[0].logprob) == "nan"


def test_chunks_of_one_stream_may_differ_in_every_field() -> None:
    stream = events_of(
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
def test_usage_details_are_kept_next_to_odd_fields(rest: str) -> None:
    details = '"prompt_tokens_details":{"cached_tokens":0},"service_tier":"standard","novel":[1]'
    usage = first(f'{{"usage":{{"total_tokens":21,{details}}}{rest}}}').usage
    assert (usage.total_tokens, usage.service_tier) == (21, "standard")
    assert usage.additional_properties == {
        "prompt_tokens_details": {"cached_tokens": 0},
        "novel": [1],
    }
    assert usage.novel == [1]


@pytest.mark.parametrize(("written", "read"), [("NaN", "nan"), ('"\\ud83d"', "\ufffd"), ('"\x01"', "\x01")])  # fmt: skip
def test_odd_usage_detail_is_decoded(written: str, read: str) -> None:
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
def test_deep_nesting_raises_stream_errors_only(nest: Callable[[int], str], depth: int) -> None:
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
def test_decoder_raises_stream_errors_only_for_any_json(values: list[object]) -> None:
    decoder = CompletionDecoder(CompletionAccumulator())
    for value in values:
        try:
            decoder.feed(ServerSentEvent(data=json.dumps(value)))
        except StreamError as error:
            str(error).encode("utf-8", "surrogatepass")
