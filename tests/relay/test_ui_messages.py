"""The UI message stream, part by part; test_ai_sdk reads it with the real npm package."""

from __future__ import annotations

from threading import Event
from typing import Any

import msgspec
import pytest
import reactivex
from completion_builders import call, completion
from faces import BOUND, Face
from msgspec import structs
from reactivex import Observable, Subject, operators

from rxmistral import (
    AnswerEnded,
    CompletionEvent,
    DroppedStreamError,
    Mistral,
    ReferenceChunk,
    ReportedError,
    RoundEnded,
    StoppedError,
    Stream,
    StreamTimeoutError,
    TextChunk,
    TextDelta,
    ThinkChunk,
    Timeouts,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolFailed,
    ToolProgress,
    ToolReturned,
    UsageInfo,
    UserMessage,
    think_tags,
)
from rxmistral import parts as split_into_parts
from rxmistral.relay import UI_MESSAGE_HEADERS, ui_message_stream
from rxmistral.relay.heartbeats import HEARTBEAT
from rxmistral.testing import Script, ScriptedServer, steps
from rxmistral.wire import decode_events
from rxmistral.wire.reader import READERS

BEGIN = [{"type": "start"}, {"type": "start-step"}]
END = [{"type": "finish-step"}, {"type": "finish"}]


def parts_of(body: list[bytes]) -> list[dict[str, Any]]:
    *events, done = decode_events(body)
    assert done.data == "[DONE]"
    return [msgspec.json.decode(event.data) for event in events]


def parts(*items: Any, **arguments: Any) -> list[dict[str, Any]]:
    return parts_of(list(ui_message_stream(reactivex.of(*items), **arguments)))


def kinds(parts: list[dict[str, Any]]) -> list[str]:
    return [part["type"] for part in parts]


def finish(*items: Any) -> dict[str, Any]:
    return parts(*items)[-1]


def text(number: int, *deltas: str, kind: str = "text") -> list[dict[str, Any]]:
    return [
        {"type": f"{kind}-start", "id": str(number)},
        *({"type": f"{kind}-delta", "id": str(number), "delta": each} for each in deltas),
        {"type": f"{kind}-end", "id": str(number)},
    ]


def reasoning(number: int, *deltas: str) -> list[dict[str, Any]]:
    return text(number, *deltas, kind="reasoning")


def thought(content: str) -> ThinkChunk:
    return ThinkChunk(thinking=[TextChunk(text=content)])


# --- text and thinking -----------------------------------------------------------


def test_text_is_one_block() -> None:
    assert parts(completion("Hel"), completion(""), completion("lo", finish="stop")) == [
        *BEGIN,
        *text(1, "Hel", "lo"),
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop"},
    ]


def test_thinking_and_text_are_blocks_in_order_of_arrival() -> None:
    assert parts(
        completion([thought("Let me")]),
        completion([thought(" see"), TextChunk(text="Four")]),
        completion("."),
        completion([thought("Sure?")]),
    ) == [
        *BEGIN,
        *reasoning(1, "Let me", " see"),
        *text(2, "Four", "."),
        *reasoning(3, "Sure?"),
        *END,
    ]


def test_text_and_think_tags_chunks_are_accepted() -> None:
    pieces = Stream.of(reactivex.of("<think>Hm", "</think>Yes"))
    assert parts_of(list(ui_message_stream(pieces.pipe(think_tags())))) == [
        *BEGIN,
        *reasoning(1, "Hm"),
        *text(2, "Yes"),
        *END,
    ]
    assert parts("Hel", "lo") == [*BEGIN, *text(1, "Hel", "lo"), *END]


def test_content_without_a_part_in_the_protocol_is_left_out() -> None:
    assert parts(completion([ReferenceChunk(reference_ids=[1])])) == [*BEGIN, *END]


def test_first_answer_is_relayed_and_no_other() -> None:
    both = parts(completion("one"), completion("other", finish="length", choice=1))
    assert both == [*BEGIN, *text(1, "one"), *END]
    assert parts(completion("one", choice=None))[2:5] == text(1, "one")


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool-calls"),
        ("content_filter", "content-filter"),
        ("brand_new", "other"),
    ],
)
def test_finish_reason_is_translated_to_the_protocol(reason: str, word: str) -> None:
    assert finish(completion("x", finish=reason)) == {"type": "finish", "finishReason": word}


def test_finish_has_the_usage_as_metadata() -> None:
    done = completion("x", finish="stop")
    chunk = structs.replace(
        done.data, usage=UsageInfo(total_tokens=3, additional_properties={"new": {}})
    )
    assert finish(CompletionEvent(data=chunk)) == {
        "type": "finish",
        "finishReason": "stop",
        "messageMetadata": {"usage": {"new": {}, "total_tokens": 3}},
    }


def test_parts_are_accepted_as_their_completions_are() -> None:
    items = (
        completion([thought("Hm"), TextChunk(text="Hi")], call('{"a":', "f", "call1")),
        completion(None, call("1}"), call("", "g", "call2", 1), call("{}", "h", "call3", 2)),
        completion(finish="length"),
    )
    pieces = reactivex.from_iterable(items).pipe(split_into_parts())
    assert parts_of(list(ui_message_stream(pieces))) == parts(*items)


def test_calls_are_relayed_if_their_deltas_are_left_out() -> None:
    whole = completion(None, call('{"a":1}', "f", "call1"), finish="tool_calls")
    pieces = reactivex.of(whole).pipe(
        split_into_parts(), operators.filter(lambda part: not isinstance(part, ToolCallDelta))
    )
    assert kinds(parts_of(list(ui_message_stream(pieces))))[2:4] == [
        "tool-input-start",
        "tool-input-available",
    ]


def test_error_that_the_program_caught_after_the_ending_is_sent() -> None:
    pieces = broken(DroppedStreamError("reset"), completion("Hi")).pipe(
        split_into_parts(), operators.catch(lambda *_: reactivex.empty())
    )
    error = {"type": "error", "errorText": str(DroppedStreamError("reset"))}
    assert parts_of(list(ui_message_stream(pieces)))[-1] == error


def test_rounds_of_a_run_are_steps_with_results() -> None:
    ready = call("{}", name="f", id="call00001")
    parts_of_run = [
        TextDelta("Hm"),
        ToolCallStarted("call00001", "f", 0),
        ToolCallDelta(0, "{}"),
        ToolCallReady(ready),
        ToolProgress(ready, 1),
        ToolReturned(ready, "2"),
        ToolFailed(ready, "no"),
        RoundEnded(1),
        TextDelta("Two"),
        RoundEnded(2),
        AnswerEnded("completed"),
    ]
    *_, result, failure, finish_step, start_step = parts(*parts_of_run)[:-5]
    assert result == {
        "type": "tool-output-available",
        "toolCallId": "call00001",
        "output": "2",
    }
    assert failure == {
        "type": "tool-output-error",
        "toolCallId": "call00001",
        "errorText": "no",
    }
    assert [finish_step, start_step] == [END[0], BEGIN[1]]
    assert parts(*parts_of_run)[-5:] == [*text(2, "Two"), *END]


def test_message_has_the_given_id() -> None:
    assert parts(message_id="m1")[0] == {"type": "start", "messageId": "m1"}


def test_start_is_sent_before_the_first_item() -> None:
    source: Subject[str] = Subject()
    first = next(iter(ui_message_stream(source)))
    assert first == b'data: {"type":"start"}\n\ndata: {"type":"start-step"}\n\n'


# --- tool calls ------------------------------------------------------------------


def calls(*items: Any) -> list[dict[str, Any]]:
    return [part for part in parts(*items) if part["type"].startswith("tool-")]


def test_tool_call_fragments_are_sent_as_they_arrive() -> None:
    assert calls(
        completion(None, call('{"city": "Par', "weather", "call9")),
        completion(None, call('is"}', "", "null")),
        completion(finish="tool_calls"),
    ) == [
        {"type": "tool-input-start", "toolCallId": "call9", "toolName": "weather"},
        {"type": "tool-input-delta", "toolCallId": "call9", "inputTextDelta": '{"city": "Par'},
        {"type": "tool-input-delta", "toolCallId": "call9", "inputTextDelta": 'is"}'},
        {
            "type": "tool-input-available",
            "toolCallId": "call9",
            "toolName": "weather",
            "input": {"city": "Paris"},
        },
    ]


def test_calls_of_any_shape_are_available_at_the_finish_reason() -> None:
    shown = calls(
        completion(
            None,
            call({"a": 1}, "add", "call1", None),
            call('{"b": 2}', "add", "call2", None),
            call(None, "now", "call3", None),
            finish="tool_calls",
        )
    )
    available = [part for part in shown if part["type"] == "tool-input-available"]
    assert [(part["toolCallId"], part["input"]) for part in available] == [
        ("call1", {"a": 1}),
        ("call2", {"b": 2}),
        ("call3", {}),
    ]


def test_call_starts_when_it_has_a_name() -> None:
    shown = calls(completion(None, call('{"a"', None, "call1")), completion(None, call(":1}", "f")))
    assert [part["type"] for part in shown] == [
        "tool-input-start",
        "tool-input-delta",
        "tool-input-available",
    ]
    assert shown[1]["inputTextDelta"] == '{"a":1}'


def test_calls_without_a_unique_id_get_stable_ids() -> None:
    source = (
        completion(None, call('{"a":1}', "f", None, 0), call('{"b":1}', "g", None, 1)),
        completion(None, call('{"c":1}', "h", "same", 2), call('{"d":1}', "i", "same", 3)),
    )
    ids = {part["toolName"]: part["toolCallId"] for part in calls(*source) if "toolName" in part}
    assert len(set(ids.values())) == 4
    assert ids["h"] == "same"
    assert all(len(ids[name]) == 9 and ids[name].isalnum() for name in "fgi")
    assert calls(*source) == calls(*source)  # for each reader of the run
    other = CompletionEvent(data=structs.replace(source[0].data, id="a2"))
    assert calls(other)[0]["toolCallId"] not in ids.values()


def test_arguments_that_are_not_json_are_an_error_of_the_call() -> None:
    *_, error = calls(completion(None, call("Paris, please", "weather", "call9"), finish="stop"))
    assert error["type"] == "tool-input-error"
    assert error["input"] == "Paris, please"
    assert "the arguments of weather" in error["errorText"]


def test_cut_call_is_one_error_and_earlier_calls_are_available() -> None:
    shown = calls(
        completion(None, call('{"a":1}', "f", "call1", 0), call('{"b', "g", "call2", 1)),
        completion(finish="length"),
    )
    ends = [part for part in shown if part["type"] in ("tool-input-available", "tool-input-error")]
    assert [(part["type"], part["toolCallId"]) for part in ends] == [
        ("tool-input-available", "call1"),
        ("tool-input-error", "call2"),
    ]


def test_late_fragment_does_not_start_a_complete_call_again() -> None:
    shown = calls(
        completion(None, call('{"a":1}', "f", "call1", 0), call('{"b":', "g", "call2", 1)),
        completion(None, call("", "f", "call1", 0)),
        completion(None, call("2}", None, None, 1), finish="tool_calls"),
    )
    started = [part["toolCallId"] for part in shown if part["type"] == "tool-input-start"]
    assert started == ["call1", "call2"]


def test_call_is_between_the_text_before_and_after_it() -> None:
    shown = kinds(parts(completion("a"), completion(None, call("{}", "f", "c1")), completion("b")))
    begins = [kind for kind in shown if kind.endswith(("-start", "-end"))]
    assert begins == ["text-start", "text-end", "tool-input-start", "text-start", "text-end"]


# --- endings ---------------------------------------------------------------------


def broken(error: Exception, *items: Any) -> Observable[Any]:
    return reactivex.concat(reactivex.of(*items), reactivex.throw(error))


def test_error_is_a_part_after_the_closed_block(read: Face) -> None:
    stream = ui_message_stream(broken(DroppedStreamError("reset"), completion("Hi")))
    body = [chunk for chunk in read(stream) if chunk is not None]
    error = {"type": "error", "errorText": str(DroppedStreamError("reset"))}
    assert parts_of(body) == [*BEGIN, *text(1, "Hi"), error]


BREAKS = [
    DroppedStreamError("reset"),
    StreamTimeoutError("gap", 0.5),
    ReportedError("overloaded"),
    StoppedError(),
    KeyError("password"),
]


@pytest.mark.parametrize("error", BREAKS, ids=lambda error: type(error).__name__)
def test_open_calls_get_an_error_before_the_answer(error: Exception) -> None:
    begun = completion(None, call('{"a": ', "f", "call1", 0), call("{}", "g", "call2", 1))
    body: list[bytes] = []
    source = broken(error, begun, completion(None, call("", None, "call3", 2)))
    ui_message_stream(source).subscribe(body.append, lambda _: None)
    *_, first, second, last = parts_of(body)
    description = last.get("errorText") or last["reason"]
    assert last["type"] == ("abort" if isinstance(error, StoppedError) else "error")
    head = {"type": "tool-input-error", "errorText": description}
    assert first == {**head, "toolCallId": "call1", "toolName": "f", "input": '{"a": '}
    assert second == {**head, "toolCallId": "call2", "toolName": "g", "input": "{}"}


def test_complete_calls_get_no_error_when_the_answer_breaks() -> None:
    whole = completion(None, call("{}", "f", "call1", 0), finish="tool_calls")
    body = list(ui_message_stream(broken(DroppedStreamError("reset"), whole)))
    assert kinds(parts_of(body))[-2:] == ["tool-input-available", "error"]


@pytest.mark.parametrize("ending", [[steps.abort()], [steps.error("overloaded")], [steps.hang()]])
@pytest.mark.parametrize("reader", READERS, indirect=True)
def test_open_call_gets_an_error_on_every_face(read: Face, ending: Script) -> None:
    begun = steps.tool_call(name="weather", arguments='{"a": ', id="call1")
    with ScriptedServer([begun, *ending]) as server, Mistral(server_url=server.url) as client:
        answer = client.chat.stream(
            model="m", messages=[UserMessage(content="Hi")], timeouts=Timeouts(gap=0.2)
        )
        body = [chunk for chunk in read(ui_message_stream(answer)) if chunk is not None]
    assert kinds(parts_of(body))[-2:] == ["tool-input-error", "error"]


def test_open_call_gets_an_error_when_a_shared_run_is_stopped() -> None:
    source: Subject[Any] = Subject()
    run = Stream.of(source).shared()
    body: list[bytes] = []
    ended = Event()
    ui_message_stream(run).subscribe(body.append, on_completed=ended.set)
    source.on_next(completion(None, call('{"a": ', "f", "call1")))
    run.stop()
    assert ended.wait(BOUND)
    assert kinds(parts_of(body))[-2:] == ["tool-input-error", "abort"]


@pytest.mark.parametrize("arguments", ["", None, '{"a": '])
def test_cut_call_is_never_available(arguments: str | None) -> None:
    (*_, error), *_ = [calls(completion(None, call(arguments, "f", "c1"), finish="length"))]
    assert error["type"] == "tool-input-error"
    assert "the answer was cut" in error["errorText"]


def test_cut_and_complete_calls_keep_their_ids() -> None:
    begun = [call("", "f", "c1", 0), call("{}", "g", "c2", 1), call('{"a"', "h", "c3", 2)]
    ends = [
        (part["type"], part["toolCallId"], part["toolName"])
        for part in calls(completion(None, *begun, finish="length"))
        if part["type"] in ("tool-input-available", "tool-input-error")
    ]
    assert ends == [
        ("tool-input-error", "c1", "f"),
        ("tool-input-available", "c2", "g"),
        ("tool-input-error", "c3", "h"),
    ]


def test_incomplete_call_is_not_available_when_the_answer_breaks() -> None:
    source = broken(DroppedStreamError("reset"), completion(None, call('{"a":1}', "f", "call1")))
    shown = kinds(parts_of(list(ui_message_stream(source))))
    assert "tool-input-start" in shown
    assert "tool-input-available" not in shown


def test_stopped_answer_is_aborted() -> None:
    body = list(ui_message_stream(broken(StoppedError(), "Hi"), describe=lambda _: "enough"))
    assert parts_of(body) == [*BEGIN, *text(1, "Hi"), {"type": "abort", "reason": "enough"}]


def test_fault_of_the_program_is_raised_after_the_error_part() -> None:
    body: list[bytes] = []
    errors: list[Exception] = []
    ui_message_stream(reactivex.of(1)).subscribe(body.append, errors.append)  # type: ignore[arg-type]
    (error,) = errors
    assert isinstance(error, TypeError)
    assert "got int" in str(error)
    assert parts_of(body) == [*BEGIN, {"type": "error", "errorText": "internal error"}]


def test_heartbeats_fill_silence() -> None:
    source: Subject[str] = Subject()
    body = iter(ui_message_stream(source, heartbeat=0.001))
    while next(body) != HEARTBEAT:  # the first may precede the start
        pass
    source.on_next("Hi")
    while next(body) == HEARTBEAT:
        pass


def test_headers_name_the_protocol() -> None:
    assert UI_MESSAGE_HEADERS["x-vercel-ai-ui-message-stream"] == "v1"
    assert UI_MESSAGE_HEADERS["Content-Type"] == "text/event-stream"


@pytest.mark.parametrize("arguments", [{"message_id": 1}, {"describe": None}, {"heartbeat": "1"}])
def test_invalid_arguments_are_refused_at_the_call(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        ui_message_stream(reactivex.of("x"), **arguments)
