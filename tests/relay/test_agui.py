"""The events of an AG-UI run, read with the models of the package ag-ui-protocol."""

from __future__ import annotations

from threading import Event as Flag
from typing import Any

import pytest
import reactivex
from ag_ui.core import PROTOCOL_VERSION, Event
from completion_builders import call, completion
from faces import BOUND, Face
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from pydantic import TypeAdapter
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
    TextChunk,
    TextDelta,
    ThinkChunk,
    Timeouts,
    ToolCallReady,
    ToolCallStarted,
    ToolFailed,
    ToolProgress,
    ToolReturned,
    UsageInfo,
    UserMessage,
    think_tags,
    tool_calls,
)
from rxmistral import parts as split_into_parts
from rxmistral.relay import agui_events
from rxmistral.relay.heartbeats import HEARTBEAT
from rxmistral.testing import Script, ScriptedServer, steps
from rxmistral.wire import decode_events
from rxmistral.wire.reader import READERS

validate = TypeAdapter(Event).validate_json

RUN = {"threadId": "t1", "runId": "r1"}
STARTED = {"type": "RUN_STARTED", **RUN, "protocolVersion": "1.0"}
FINISHED = {"type": "RUN_FINISHED", **RUN}


def relay(source: Observable[Any], **arguments: Any) -> Stream[bytes]:
    return agui_events(source, thread_id="t1", run_id="r1", **arguments)


def events_of(body: list[bytes]) -> list[dict[str, Any]]:
    """Returns the events of a body, which are valid and follow the rules of the protocol."""
    assert b"\r" not in b"".join(body)
    models = [validate(event.data) for event in decode_events(body)]
    assert not any(model.model_extra for model in models)
    events = [model.model_dump(mode="json", by_alias=True) for model in models]
    check_order(events)
    return events


def check_order(events: list[dict[str, Any]]) -> None:
    """Applies the rules of the pages "Runs and Steps" and "Streaming Messages"."""
    first, *others, last = events
    assert first["type"] == "RUN_STARTED"
    assert last["type"] in ("RUN_FINISHED", "RUN_ERROR")
    still_open: set[tuple[str, str]] = set()
    for event in others:
        kind, _, action = event["type"].rpartition("_")
        item = kind, event.get("toolCallId") or event["messageId"]
        if action == "RESULT":
            assert item not in still_open
        elif action == "START":
            assert item not in still_open
            still_open.add(item)
        else:
            assert item in still_open
        if action == "END":
            still_open.remove(item)
    assert not still_open or last["type"] == "RUN_ERROR"


def events(*items: Any, **arguments: Any) -> list[dict[str, Any]]:
    return events_of(list(relay(reactivex.of(*items), **arguments)))


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def broken(error: Exception, *items: Any) -> Observable[Any]:
    return reactivex.concat(reactivex.of(*items), reactivex.throw(error))


def text(id: str, *deltas: str) -> list[dict[str, Any]]:
    return [
        {"type": "TEXT_MESSAGE_START", "messageId": id, "role": "assistant"},
        *({"type": "TEXT_MESSAGE_CONTENT", "messageId": id, "delta": each} for each in deltas),
        {"type": "TEXT_MESSAGE_END", "messageId": id},
    ]


def reasoning(id: str, *deltas: str) -> list[dict[str, Any]]:
    return [
        {"type": "REASONING_START", "messageId": id},
        {"type": "REASONING_MESSAGE_START", "messageId": id, "role": "reasoning"},
        *({"type": "REASONING_MESSAGE_CONTENT", "messageId": id, "delta": d} for d in deltas),
        {"type": "REASONING_MESSAGE_END", "messageId": id},
        {"type": "REASONING_END", "messageId": id},
    ]


def thought(content: str) -> ThinkChunk:
    return ThinkChunk(thinking=[TextChunk(text=content)])


# --- text and thinking -----------------------------------------------------------


def test_text_is_one_message() -> None:
    assert events(completion("Hel"), completion(""), completion("lo", finish="stop")) == [
        STARTED,
        *text("r1-1", "Hel", "lo"),
        {**FINISHED, "metadata": {"finishReason": "stop"}},
    ]


def test_thinking_is_messages_and_all_text_is_one_message() -> None:
    assert events(
        completion([thought("Let me")]),
        completion([thought(" see"), TextChunk(text="Four")]),
        completion([thought("Sure?")]),
        completion("."),
    ) == [
        STARTED,
        *reasoning("r1-1", "Let me", " see"),
        *text("r1-2", "Four"),
        *reasoning("r1-3", "Sure?"),
        *text("r1-2", "."),
        FINISHED,
    ]


def test_text_and_think_tags_chunks_are_accepted() -> None:
    pieces = Stream.of(reactivex.of("<think>Hm", "</think>Yes"))
    body = list(relay(pieces.pipe(think_tags())))
    assert events_of(body) == [STARTED, *reasoning("r1-1", "Hm"), *text("r1-2", "Yes"), FINISHED]
    assert events("Hel", "", "lo") == [STARTED, *text("r1-1", "Hel", "lo"), FINISHED]


def test_parts_are_accepted_as_their_completions_are() -> None:
    items = (
        completion([thought("Hm"), TextChunk(text="Hi")], call('{"a":', "f", "call1")),
        completion(None, call("1}"), call("{}", "g", None, 1), finish="tool_calls"),
    )
    pieces = reactivex.from_iterable(items).pipe(split_into_parts())
    assert events_of(list(relay(pieces))) == events(*items)


def test_content_without_an_event_in_the_protocol_is_left_out() -> None:
    assert events(completion([ReferenceChunk(reference_ids=[1])])) == [STARTED, FINISHED]


def test_first_answer_is_relayed_and_no_other() -> None:
    both = events(completion("one"), completion("other", finish="length", choice=1))
    assert both == [STARTED, *text("r1-1", "one"), FINISHED]


def test_run_starts_before_the_first_item() -> None:
    source: Subject[str] = Subject()
    first = next(iter(relay(source)))
    (event,) = decode_events([first])
    assert validate(event.data).protocol_version == PROTOCOL_VERSION


# --- tool calls ------------------------------------------------------------------


def test_tool_call_fragments_are_sent_as_they_arrive() -> None:
    shown = events(
        completion("I look.", call('{"city": "Par', "weather", "call9")),
        completion(None, call('is"}', "", "null")),
        completion(finish="tool_calls"),
    )
    start = {"toolCallName": "weather", "parentMessageId": "r1-1"}
    assert shown[1:] == [
        *text("r1-1", "I look."),
        {"type": "TOOL_CALL_START", "toolCallId": "call9", **start},
        {"type": "TOOL_CALL_ARGS", "toolCallId": "call9", "delta": '{"city": "Par'},
        {"type": "TOOL_CALL_ARGS", "toolCallId": "call9", "delta": 'is"}'},
        {"type": "TOOL_CALL_END", "toolCallId": "call9"},
        {
            **FINISHED,
            "outcome": {"type": "success", "pendingToolCallIds": ["call9"]},
            "metadata": {"finishReason": "tool_calls"},
        },
    ]


def test_calls_and_text_of_an_answer_are_one_message() -> None:
    calls = call("{}", "f", "call1"), call({"a": 1}, "g", "call2", 1)
    shown = events(completion(None, *calls), completion("after", finish="stop"))
    parents = [event["parentMessageId"] for event in shown if "parentMessageId" in event]
    assert parents == ["r1-1", "r1-1"]
    assert text("r1-1", "after") == [e for e in shown if e["type"].startswith("TEXT")]
    assert shown[-1]["outcome"]["pendingToolCallIds"] == ["call1", "call2"]


def test_calls_without_a_unique_id_get_stable_ids() -> None:
    source = (
        completion(None, call('{"a":1}', "f", None, 0), call('{"b":1}', "g", None, 1)),
        completion(None, call('{"c":1}', "h", "same", 2), call('{"d":1}', "i", "same", 3)),
    )
    first = [e["toolCallId"] for e in events(*source) if e["type"] == "TOOL_CALL_END"]
    assert len(set(first)) == 4
    assert [each for each in first if len(each) == 9 and each.isalnum()] == [*first[:2], first[3]]
    assert events(*source) == events(*source)  # for each reader of the run


def test_arguments_that_are_not_json_are_sent_as_they_are() -> None:
    shown = events(completion(None, call("Paris, please", "weather", "call9"), finish="stop"))
    assert kinds(shown)[1:] == [
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "RUN_FINISHED",
    ]


@pytest.mark.parametrize("arguments", ["", None, '{"a": '])
def test_cut_call_is_not_closed_and_the_run_fails(arguments: str | None) -> None:
    begun = call('{"a":1}', "f", "c1"), call(arguments, "g", "c2", 1), call("{}", "h", "c3", 2)
    shown = events(completion(None, *begun), completion(finish="length"))
    assert [e["toolCallId"] for e in shown if e["type"] == "TOOL_CALL_END"] == ["c1", "c3"]
    assert shown[-1]["type"] == "RUN_ERROR"
    assert shown[-1]["code"] == "length"
    assert "the answer was cut" in shown[-1]["message"]
    assert "the arguments of g" in shown[-1]["message"]


def test_results_of_a_run_are_messages_between_its_answers() -> None:
    ready, failing = call("{}", id="call00001"), call("{}", id="call00002")
    received = events(
        ToolCallStarted("call00001", "f", 0),
        ToolCallReady(ready),
        ToolCallStarted("call00002", "g", 1),
        ToolCallReady(failing),
        ToolProgress(ready, 1),
        ToolReturned(ready, "2"),
        ToolFailed(failing, "no"),
        RoundEnded(1),
        TextDelta("Two"),
        RoundEnded(2),
        AnswerEnded("completed"),
    )
    results = [event for event in received if event["type"] == "TOOL_CALL_RESULT"]
    assert [(each["toolCallId"], each["content"]) for each in results] == [
        ("call00001", "2"),
        ("call00002", "no"),
    ]
    assert received[-4:] == [*text("r1-4", "Two"), FINISHED]
    assert received[1]["parentMessageId"] == "r1-1"


def test_call_whose_start_was_left_out_is_left_out() -> None:
    whole = completion(None, call("{}", "f", "call1"), finish="tool_calls")
    pieces = reactivex.of(whole).pipe(
        split_into_parts(), operators.filter(lambda part: not isinstance(part, ToolCallStarted))
    )
    assert kinds(events_of(list(relay(pieces)))) == ["RUN_STARTED", "RUN_FINISHED"]


FRAGMENTS = st.builds(
    call,
    st.sampled_from([None, "", "{", "}", "{}"]),
    st.sampled_from([None, "", "f", "g"]),
    st.sampled_from([None, "null", "c1", "c2"]),
    st.sampled_from([None, 0, 1, 2]),
)
COMPLETIONS = st.builds(
    lambda content, fragments, finish: completion(content, *fragments, finish=finish),
    st.sampled_from([None, "Hi", [thought("Hm")]]),
    st.lists(FRAGMENTS, max_size=2),
    st.sampled_from([None, None, None, "length", "tool_calls"]),
)
ERRORS = st.sampled_from([None, DroppedStreamError("reset"), StoppedError()])


@given(st.lists(COMPLETIONS, max_size=8), ERRORS)
def test_events_of_any_answer_follow_the_rules(
    answer: list[CompletionEvent], error: Exception | None
) -> None:
    source = broken(error, *answer) if error else reactivex.from_iterable(answer)
    shown = events_of(list(relay(source)))
    ready: list[Any] = []
    source.pipe(tool_calls()).subscribe(ready.append, lambda _: None)
    if not isinstance(error, StoppedError):
        assert kinds(shown).count("TOOL_CALL_END") == len(ready)


# --- endings ---------------------------------------------------------------------


def test_run_has_the_usage_in_the_words_of_the_protocol() -> None:
    usage = UsageInfo(
        prompt_tokens=9,
        completion_tokens=5,
        total_tokens=20,  # of a server that counts differently
        additional_properties={
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
        },
    )
    counts = {
        "inputTokens": 9,
        "outputTokens": 5,
        "totalTokens": 14,
        "reasoningTokens": 3,
        "cachedInputTokens": 4,
    }
    item = CompletionEvent(data=structs.replace(completion("Hi").data, usage=usage))
    assert events(item)[-1]["usage"] == [counts]
    assert events_of(list(relay(broken(DroppedStreamError("x"), item))))[-1]["usage"] == [counts]


@pytest.mark.parametrize(
    "details",
    [None, "many", {"cached_tokens": None}, {"cached_tokens": -1}, {"cached_tokens": 1.5}],
)
def test_counts_that_are_not_counts_are_left_out(details: Any) -> None:
    usage = UsageInfo(prompt_tokens=-1, additional_properties={"prompt_tokens_details": details})
    item = CompletionEvent(data=structs.replace(completion("Hi").data, usage=usage))
    assert "usage" not in events(item)[-1]


ENDINGS: dict[str, tuple[Script, str]] = {
    "refused": ([steps.status(429, body={"message": "slow down"})], "refused"),
    "timed_out": (["Hi", steps.hang()], "timed_out"),
    "dropped": (["Hi", steps.abort()], "dropped"),
    "truncated": (["Hi"], "truncated"),
    "reported": (["Hi", steps.error("overloaded")], "reported"),
}


@pytest.mark.parametrize(("script", "status"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("reader", READERS, indirect=True)
def test_failed_answer_is_an_error_on_every_face(read: Face, script: Script, status: str) -> None:
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        answer = client.chat.stream(
            model="m", messages=[UserMessage(content="Hi")], timeouts=Timeouts(gap=0.2)
        )
        body = [chunk for chunk in read(relay(answer)) if chunk is not None]
        outcome = answer.outcome
    *shown, error = events_of(body)
    assert shown[1:] == ([] if status == "refused" else text("r1-1", "Hi"))
    assert outcome is not None
    assert error == {"type": "RUN_ERROR", "message": str(outcome.error), "code": status}


def test_open_call_stays_open_when_the_answer_breaks() -> None:
    begun = completion(None, call("{}", "f", "call1"))
    shown = events_of(list(relay(broken(ReportedError("overloaded"), begun))))
    assert kinds(shown)[-3:] == ["TOOL_CALL_START", "TOOL_CALL_ARGS", "RUN_ERROR"]


def test_stopped_run_is_cancelled_and_closes_open_messages() -> None:
    source: Subject[Any] = Subject()
    run = Stream.of(source).shared()
    body: list[bytes] = []
    ended = Flag()
    relay(run).subscribe(body.append, on_completed=ended.set)
    source.on_next(completion("Hi", call('{"a": ', "f", "call1")))
    run.stop()
    assert ended.wait(BOUND)
    *_, closed, finished = events_of(body)
    assert closed == {"type": "TOOL_CALL_END", "toolCallId": "call1"}
    assert finished == {**FINISHED, "outcome": {"type": "cancelled"}}


def test_error_is_described_by_the_given_function() -> None:
    stream = relay(broken(DroppedStreamError("reset"), "Hi"), describe=lambda _: "too bad")
    assert events_of(list(stream))[-1]["message"] == "too bad"


def test_fault_of_the_program_is_raised_after_the_error_event() -> None:
    body: list[bytes] = []
    errors: list[Exception] = []
    relay(reactivex.of(1)).subscribe(body.append, errors.append)
    (error,) = errors
    assert isinstance(error, TypeError)
    assert str(error).startswith("agui_events accepts completions,")
    failed = {"type": "RUN_ERROR", "message": "internal error", "code": "failed"}
    assert events_of(body) == [STARTED, failed]


def test_reader_that_leaves_stops_the_answer() -> None:
    with ScriptedServer(["Hi", steps.hang()]) as server, Mistral(server_url=server.url) as client:
        answer = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
        for chunk in relay(answer):
            if b"TEXT_MESSAGE_CONTENT" in chunk:
                break
        assert server.requests[0].wait_answered(BOUND)
        assert server.requests[0].cut


def test_stopped_error_after_a_cut_call_closes_it() -> None:
    cut = completion(None, call("", "f", "c1"), call("{}", "g", "c2", 1), finish="length")
    shown = events_of(list(relay(broken(StoppedError(), cut))))
    assert [e["toolCallId"] for e in shown if e["type"] == "TOOL_CALL_END"] == ["c2", "c1"]


def test_heartbeats_fill_silence() -> None:
    source: Subject[str] = Subject()
    body = iter(relay(source, heartbeat=0.001))
    while next(body) != HEARTBEAT:  # the first may precede the start
        pass
    source.on_next("Hi")
    while next(body) == HEARTBEAT:
        pass


@pytest.mark.parametrize(
    "arguments", [{"thread_id": 1}, {"run_id": None}, {"describe": None}, {"heartbeat": "1"}]
)
def test_invalid_arguments_are_refused_at_the_call(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        agui_events(reactivex.of("x"), **{"thread_id": "t1", "run_id": "r1", **arguments})
