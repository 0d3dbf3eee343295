"""One answer as typed parts: all of it, in the order of arrival, and its ending."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
import reactivex
from faces import BOUND, Face
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, Subject, operators

import rxmistral
from rxmistral import (
    AnswerEnded,
    CompletionEvent,
    DroppedStreamError,
    EventStream,
    FunctionCall,
    MemoryLog,
    Mistral,
    MistralError,
    Part,
    References,
    RoundEnded,
    StoppedError,
    Stream,
    TextDelta,
    ThinkingDelta,
    Timeouts,
    ToolCall,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolFailed,
    ToolProgress,
    ToolReturned,
    UsageInfo,
    UsageReported,
    completions,
    finish_reason,
    from_log,
    parts,
    text,
    thinking,
    to_log,
    tool_calls,
    usage,
)
from rxmistral.models import CompletionChunk, decode_hook
from rxmistral.testing import Script, ScriptedServer, steps
from rxmistral.testing.recordings import read_recording
from rxmistral.wire import events, lines
from rxmistral.wire.reader import READERS

decode = msgspec.json.Decoder(CompletionChunk, dec_hook=decode_hook).decode
RECORDING = Path(__file__).parents[2] / "examples" / "recording.jsonl"

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def event(
    content: Any = None,
    *calls: dict[str, Any],
    finish: str | None = None,
    usage: dict[str, Any] | None = None,
    choice: int = 0,
) -> CompletionEvent:
    delta = {"content": content, "tool_calls": list(calls) or None}
    one = {"index": choice, "delta": delta, "finish_reason": finish}
    return CompletionEvent(data=decode(json.dumps({"choices": [one], "usage": usage})))


def call(
    arguments: Any = None, name: str | None = None, index: int | None = 0, id: str | None = None
) -> dict[str, Any]:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


def thought(*pieces: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [*pieces]}


def piece(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def reference(*ids: int | str) -> dict[str, Any]:
    return {"type": "reference", "reference_ids": [*ids]}


def read(source: Observable[CompletionEvent], choice: int = 0) -> tuple[list[Part], Any]:
    """Returns the parts, and the error or None."""
    received: list[Part] = []
    errors: list[Exception] = []
    source.pipe(parts(choice)).subscribe(received.append, errors.append)
    return received, errors[0] if errors else None


def parts_of(*items: CompletionEvent, choice: int = 0) -> list[Part]:
    """Returns the parts of a complete answer, without its ending."""
    *received, ended = read(reactivex.from_iterable(items), choice)[0]
    assert isinstance(ended, AnswerEnded)
    return received


def broken(error: Exception, *items: CompletionEvent) -> Observable[CompletionEvent]:
    return reactivex.concat(reactivex.from_iterable(items), reactivex.throw(error))


# --- what arrives ----------------------------------------------------------------


def test_content_is_parts_in_the_order_of_arrival() -> None:
    assert parts_of(
        event([thought(piece("Hm"), reference("a"), piece("")), piece("Hel"), reference(1, 2)]),
        event(""),
        event(["lo", piece(""), reference(), {"type": "brand_new"}]),
        event(None),
        event("!"),
    ) == [
        ThinkingDelta("Hm"),
        References(["a"]),
        TextDelta("Hel"),
        References([1, 2]),
        TextDelta("lo"),
        TextDelta("!"),
    ]


def test_parts_of_one_chunk_end_with_its_usage() -> None:
    chunk = event("Hi", call("{}", "f", id="c1"), finish="tool_calls", usage=USAGE)
    shown = parts_of(chunk)
    kinds = [TextDelta, ToolCallStarted, ToolCallDelta, ToolCallReady, UsageReported]
    assert [type(part) for part in shown] == kinds
    assert shown[-1] == UsageReported(UsageInfo(**USAGE))


def test_only_the_chosen_answer_is_split() -> None:
    both = event("one"), event("two", call("{}", "f"), finish="length", choice=1)
    assert parts_of(*both) == [TextDelta("one")]
    assert parts_of(*both, choice=1)[0] == TextDelta("two")
    assert read(reactivex.from_iterable(both))[0][-1] == AnswerEnded("completed")
    assert read(reactivex.from_iterable(both), 1)[0][-1] == AnswerEnded("completed", "length")


def test_part_is_emitted_when_it_arrives() -> None:
    source: Subject[CompletionEvent] = Subject()
    received: list[Part] = []
    source.pipe(parts()).subscribe(received.append)
    source.on_next(event("Hel", call('{"a"', "f")))
    assert received == [
        TextDelta("Hel"),
        ToolCallStarted(None, "f", 0),
        ToolCallDelta(0, '{"a"'),
    ]


# --- tool calls ------------------------------------------------------------------


def test_interleaved_calls_are_counted_in_order_of_start() -> None:
    shown = parts_of(
        event(None, call('{"a"', "f", 7, "c1"), call('{"b"', "g", 3, "c2")),
        event(None, call(":2}", index=3), call(":1}", index=7)),
        event(finish="tool_calls"),
    )
    assert shown[:6] == [
        ToolCallStarted("c1", "f", 0),
        ToolCallDelta(0, '{"a"'),
        ToolCallStarted("c2", "g", 1),
        ToolCallDelta(1, '{"b"'),
        ToolCallDelta(1, ":2}"),
        ToolCallDelta(0, ":1}"),
    ]
    assert shown[6:] == [
        ToolCallReady(ToolCall(FunctionCall("f", '{"a":1}'), id="c1", index=7)),
        ToolCallReady(ToolCall(FunctionCall("g", '{"b":2}'), id="c2", index=3)),
    ]


def test_call_is_ready_when_the_next_one_has_begun() -> None:
    first, second = call('{"a":1}', "f", 0), call("", "g", 1)
    shown = parts_of(event(None, first), event(None, second), event("after"))
    assert [type(part) for part in shown[2:5]] == [ToolCallStarted, ToolCallReady, TextDelta]


def test_call_starts_when_its_name_has_arrived() -> None:
    shown = parts_of(event(None, call('{"a"', None, id="c1")), event(None, call(":1}", "f")))
    assert shown[:2] == [ToolCallStarted("c1", "f", 0), ToolCallDelta(0, '{"a":1}')]


def test_call_waits_for_the_name_of_the_one_before() -> None:
    first, second = event(None, call('{"a"', None, 0)), event(None, call("{}", "g", 1))
    assert parts_of(first, second, event("Hi"))[0] == TextDelta("Hi")
    shown = parts_of(first, second, event(None, call(":1}", "f", 0)))
    started = [part for part in shown if isinstance(part, ToolCallStarted)]
    assert started == [ToolCallStarted(None, "f", 0), ToolCallStarted(None, "g", 1)]


def test_call_without_any_name_starts_at_its_end() -> None:
    *shown, ready = parts_of(event(None, call("{}")), event(finish="tool_calls"))
    assert shown == [ToolCallStarted(None, "", 0), ToolCallDelta(0, "{}")]
    assert isinstance(ready, ToolCallReady)
    assert ready.call.function.name is None


def test_object_of_arguments_is_one_piece_of_json() -> None:
    shown = parts_of(event(None, call({"city": "Zürich"}, "f")), event(finish="tool_calls"))
    assert shown[:2] == [ToolCallStarted(None, "f", 0), ToolCallDelta(0, '{"city":"Zürich"}')]
    assert isinstance(shown[2], ToolCallReady)
    assert shown[2].call.function.arguments == {"city": "Zürich"}


def test_late_fragment_does_not_continue_a_ready_call() -> None:
    shown = parts_of(
        event(None, call("{}", "f", 0), call("{}", "g", 1), finish="tool_calls"),
        event(None, call(" ", "f", 0)),
    )
    assert isinstance(shown[-1], ToolCallReady)


@pytest.mark.parametrize("arguments", ["", None, '{"a": '])
@pytest.mark.parametrize("reason", ["length", "model_length", "content_filter"])
def test_cut_call_is_never_ready(arguments: str | None, reason: str) -> None:
    fragments = call("{}", "f", 0), call(arguments, "g", 1)
    shown = parts_of(event(None, *fragments, finish=reason))
    ready = [part.call for part in shown if isinstance(part, ToolCallReady)]
    assert [each.function.name for each in ready] == ["f"]


def test_call_of_a_broken_answer_is_never_ready() -> None:
    *shown, ended = read(broken(DroppedStreamError("reset"), event(None, call("{}", "f"))))[0]
    assert shown == [ToolCallStarted(None, "f", 0), ToolCallDelta(0, "{}")]
    assert isinstance(ended, AnswerEnded)


# --- agreement with the other operators ------------------------------------------


def joined_arguments(shown: list[Part]) -> list[str]:
    pieces: defaultdict[int, str] = defaultdict(str)
    for part in shown:
        if isinstance(part, ToolCallStarted):
            assert part.index == len(pieces)  # in order, and before its deltas
            pieces[part.index] = ""
        elif isinstance(part, ToolCallDelta):
            assert part.index in pieces
            pieces[part.index] += part.arguments
    return [*pieces.values()]


def emitted(source: Observable[CompletionEvent], operator: Any) -> list[Any]:
    received: list[Any] = []
    source.pipe(operator).subscribe(received.append, lambda _: None)
    return received


def check_agreement(source: Observable[CompletionEvent], choice: int = 0) -> None:
    *shown, ended = read(source, choice)[0]
    texts = [part.text for part in shown if isinstance(part, TextDelta)]
    thoughts = [part.text for part in shown if isinstance(part, ThinkingDelta)]
    calls = [part.call for part in shown if isinstance(part, ToolCallReady)]
    costs = [part.usage for part in shown if isinstance(part, UsageReported)]
    assert texts == emitted(source, text(choice))
    assert thoughts == emitted(source, thinking(choice))
    assert calls == emitted(source, tool_calls(choice))
    assert costs[-1:] == emitted(source, usage())
    reasons = emitted(source, finish_reason(choice))
    latest = reasons[-1] if reasons else None
    assert ended == AnswerEnded("completed", latest, costs[-1] if costs else None)
    assert not any(isinstance(part, AnswerEnded) for part in shown)
    arguments = joined_arguments(shown)
    for each in calls:
        assert each.function.arguments in ("", None) or each.function.arguments in arguments
    for part in (*shown, ended):
        assert msgspec.json.decode(msgspec.json.encode(part), type=Part) == part


def test_parts_of_a_recording_agree_with_the_other_operators() -> None:
    (exchange,) = read_recording(RECORDING)
    blocks = reactivex.of(*(block.data for block in exchange.blocks))
    source = blocks.pipe(lines(), events(), completions())
    check_agreement(source)
    assert emitted(source, text())


CONTENTS = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.lists(
        st.one_of(
            st.text(max_size=3).map(piece),
            st.text(max_size=3).map(lambda content: thought(piece(content))),
            st.lists(st.integers(0, 9), max_size=2).map(lambda ids: reference(*ids)),
        ),
        max_size=3,
    ),
)
CALLS = st.builds(
    call,
    st.sampled_from([None, "", " ", "{", "}", "{}", '{"a":1}', '"a":1}']),
    st.sampled_from([None, "", "f", "g"]),
    st.sampled_from([None, 0, 1, 2]),
    st.sampled_from([None, "null", "c1", "c2"]),
)
EVENTS = st.builds(
    lambda content, calls, **more: event(content, *calls, **more),
    CONTENTS,
    st.lists(CALLS, max_size=2),
    finish=st.sampled_from([None, None, None, "stop", "length", "tool_calls"]),
    usage=st.sampled_from([None, USAGE, {"total_tokens": 1}]),
    choice=st.integers(0, 1),
)


@given(st.lists(EVENTS, max_size=12))
def test_parts_of_any_answer_agree_with_the_other_operators(
    answer: list[CompletionEvent],
) -> None:
    for choice in (0, 1):
        check_agreement(reactivex.from_iterable(answer), choice)


# --- endings ---------------------------------------------------------------------


def test_ending_has_the_finish_reason_and_the_usage() -> None:
    items = event("Hi", usage={"total_tokens": 4}), event(finish="stop"), event(usage=USAGE)
    received, error = read(reactivex.from_iterable(items))
    assert received[-1] == AnswerEnded("completed", "stop", UsageInfo(**USAGE), None)
    assert error is None


def test_empty_answer_has_an_ending() -> None:
    assert read(reactivex.empty()) == ([AnswerEnded("completed")], None)


def test_text_of_a_foreign_error_is_not_in_the_ending() -> None:
    failure = KeyError("password")
    received, error = read(broken(failure, event("Hi")))
    assert received == [TextDelta("Hi"), AnswerEnded("failed", error="internal error")]
    assert error is failure


def test_finish_reason_error_is_not_that_of_the_ending() -> None:
    received, _ = read(broken(StoppedError(), event("Hi", finish="error")))
    assert received[-1] == AnswerEnded("cancelled", None, None, str(StoppedError()))


ENDINGS: dict[str, tuple[Script, str]] = {
    "complete": (["Hi", steps.finish(usage=(3, 2)), steps.done()], "completed"),
    "refused": ([steps.status(401, body={"message": "Bearer the-secret-key is wrong"})], "refused"),
    "timed out": (["Hi", steps.hang()], "timed_out"),
    "dropped": (["Hi", steps.abort()], "dropped"),
    "truncated": (["Hi"], "truncated"),
    "reported": (["Hi", steps.error("overloaded")], "reported"),
}


def ask(client: Mistral, timeouts: Timeouts | None = None) -> EventStream:
    messages = [{"role": "user", "content": "Hi"}]
    return client.chat.stream(model="m", messages=messages, timeouts=timeouts)


@pytest.mark.parametrize(("script", "status"), ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("reader", READERS, indirect=True)
def test_each_ending_is_the_last_part_on_every_face(
    read: Face, script: Script, status: str
) -> None:
    with (
        ScriptedServer(script) as server,
        Mistral("the-secret-key", server_url=server.url) as client,
    ):
        answer = ask(client, Timeouts(gap=0.2))
        received = [item for item in read(answer.pipe(parts())) if item is not None]
        outcome = answer.outcome
    errors = [item for item in received if isinstance(item, Exception)]
    assert received[len(received) - len(errors) :] == errors
    (ended,) = [item for item in received if isinstance(item, AnswerEnded)]
    assert received[-1 - len(errors)] is ended
    assert ended.status == status
    assert outcome is not None
    assert (ended.status, ended.finish_reason) == (outcome.status, outcome.finish_reason)
    assert ended.usage == outcome.usage
    assert ended.error == (str(errors[0]) if errors else None)
    assert "the-secret-key" not in repr(ended)


def test_disposed_subscription_receives_no_ending() -> None:
    received: list[Part] = []
    arrived = threading.Event()

    def note(part: Part) -> None:
        received.append(part)
        arrived.set()

    with ScriptedServer(["Hi", steps.hang()]) as server, Mistral(server_url=server.url) as client:
        subscription = ask(client).pipe(parts()).subscribe(note)
        assert arrived.wait(BOUND)
        subscription.dispose()
        assert server.requests[0].wait_answered(BOUND)
    assert received == [TextDelta("Hi")]


def test_closed_loop_receives_no_ending() -> None:
    with ScriptedServer(["Hi", steps.hang()]) as server, Mistral(server_url=server.url) as client:
        received: list[Part] = []
        pieces = ask(client).pipe(parts())
        for part in pieces:
            received.append(part)
            pieces.close()
    assert received == [TextDelta("Hi")]


def test_ending_of_a_stopped_run_is_cancelled() -> None:
    source: Subject[CompletionEvent] = Subject()
    run = Stream.of(source).shared()
    received: list[Part] = []
    ended = threading.Event()
    run.pipe(parts()).subscribe(received.append, lambda _: ended.set())
    source.on_next(event("Hi"))
    run.stop()
    assert ended.wait(BOUND)
    assert received == [TextDelta("Hi"), AnswerEnded("cancelled", error=str(StoppedError()))]


def test_wrong_item_is_an_error_after_the_ending() -> None:
    received, error = read(reactivex.of("text"))  # type: ignore[arg-type]
    assert received == [AnswerEnded("failed", error="internal error")]
    assert str(error) == "parts() takes completions, got a str: put it before text()"


@pytest.mark.parametrize("choice", [-1, 0.5, "0", None, True])
def test_invalid_choice_is_refused_at_the_call(choice: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="choice"):
        parts(choice)


# --- the union -------------------------------------------------------------------

EACH: dict[str, Part] = {
    "text_delta": TextDelta("Hi"),
    "thinking_delta": ThinkingDelta("Hm"),
    "tool_call_started": ToolCallStarted("c1", "f", 0),
    "tool_call_delta": ToolCallDelta(0, "{"),
    "tool_call_ready": ToolCallReady(ToolCall(FunctionCall("f", {"a": [1]}), id="c1")),
    "references": References([1, "a"]),
    "usage_reported": UsageReported(UsageInfo(1, additional_properties={"new": {"b": 2}})),
    "answer_ended": AnswerEnded("completed", "stop", UsageInfo(1), None),
    "tool_returned": ToolReturned(ToolCall(id="c1"), "21"),
    "tool_failed": ToolFailed(ToolCall(id="c1"), "closed"),
    "tool_progress": ToolProgress(ToolCall(id="c1"), {"done": 0.5}),
    "round_ended": RoundEnded(1),
}


@pytest.mark.parametrize(("tag", "part"), EACH.items(), ids=EACH)
def test_part_is_json_with_its_name_in_snake_case(tag: str, part: Part) -> None:
    encoded = msgspec.json.encode(part)
    assert json.loads(encoded)["type"] == tag
    assert msgspec.json.decode(encoded, type=Part) == part
    assert getattr(rxmistral, type(part).__name__) is type(part)


def test_every_member_of_the_union_is_tested() -> None:
    assert set(map(type, EACH.values())) == set(Part.__args__)


def test_log_carries_parts_and_the_error_after_them() -> None:
    log = MemoryLog()
    error = DroppedStreamError("reset")
    items: Observable[Any] = reactivex.concat(
        reactivex.from_iterable(EACH.values()), reactivex.throw(error)
    )
    with pytest.raises(DroppedStreamError):
        Stream.of(items).pipe(to_log(log, "run")).run()
    received: list[Any] = []
    with pytest.raises(MistralError, match="reset"):
        from_log(log, "run").pipe(operators.do_action(received.append)).run()
    assert received == [*EACH.values()]
