"""Servers that end, think and keep connections alive in their own ways, read in every way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from faces import BOUND, Face, eventually, run
from reactivex import operators as ops

from rxmistral import (
    CompletionEvent,
    EventStream,
    IncompleteStreamError,
    Mistral,
    Outcome,
    ReportedError,
    Resume,
    Retry,
    Timeouts,
    completions,
    on_outcome,
    text,
    thinking,
    to_response,
    usage,
)
from rxmistral.chat.policies import timeouts
from rxmistral.relay import ui_message_stream
from rxmistral.testing import Script, ScriptedServer, Step, steps
from rxmistral.wire import blocks, events, lines
from rxmistral.wire.reader import READERS
from rxmistral.wire.sender import post

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)

CALL: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
HELLO = steps.text("Hello")
STOP = steps.finish("stop")
USAGE = steps.usage(3, 4)


def ask(client: Mistral, **more: Any) -> EventStream:
    return client.chat.stream(**CALL, **more)


def raw(data: str, end: str = "\n\n") -> Step:
    return steps.raw(f"data: {data}{end}".encode())


def delta(index: int = 0, **delta: Any) -> Step:
    return raw(json.dumps({"choices": [{"index": index, "delta": delta}]}))


# --- after the finish_reason -------------------------------------------------------

AFTER: dict[str, list[Step]] = {
    "silence": [steps.hang()],
    "a FIN without the last chunk": [steps.drop()],
    "a RST": [steps.wait(0.02), steps.abort()],
    "the end": [steps.end()],
    "half an event": [steps.raw(b'data: {"choices"'), steps.drop()],
}


@pytest.mark.parametrize("policies", [{}, {"resume": Resume(), "retry": Retry(attempts=2)}])
@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_finish_reason_completes_the_answer_whatever_follows(
    after: list[Step], policies: dict[str, Any], read: Face
) -> None:
    outcomes: list[Outcome] = []
    with (
        ScriptedServer([HELLO, STOP, *after]) as server,
        Mistral(server_url=server.url) as client,
    ):
        answer, began = ask(client, **policies), monotonic()
        assert read(answer.pipe(on_outcome(outcomes.append), text())) == ["Hello"]
        assert answer.outcome is not None
        assert answer.outcome.status == "completed"
        assert monotonic() - began < BOUND, "it waited for a timeout"
        assert len(server.requests) == 1
    assert [outcome.status for outcome in outcomes] == ["completed"]


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_usage_and_text_after_the_finish_reason_are_kept(after: list[Step]) -> None:
    script = [HELLO, STOP, steps.wait(0.02), USAGE, steps.text("!"), *after]
    with ScriptedServer(script, script) as server, Mistral(server_url=server.url) as client:
        assert "".join(ask(client).pipe(text())) == "Hello!"
        assert ask(client).pipe(usage()).run().completion_tokens == 4


def test_text_after_the_finish_reason_does_not_delay_the_end() -> None:
    more = [each for _ in range(200) for each in (steps.text("!"), steps.wait(0.1))]
    with ScriptedServer([HELLO, STOP, *more]) as server, Mistral(server_url=server.url) as client:
        assert len(list(ask(client).pipe(text()))) < 20


def test_timeouts_do_not_shorten_the_grace_period() -> None:
    script = [HELLO, STOP, steps.wait(0.1), USAGE, steps.hang()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        answer = ask(client, timeouts=Timeouts(gap=0.05))
        assert answer.pipe(usage()).run().completion_tokens == 4


def test_finish_reason_of_one_choice_does_not_end_the_other() -> None:
    last = raw('{"choices":[{"index":1,"finish_reason":"stop"}]}')
    second = [delta(1, content="b"), last, steps.hang()]
    script = [HELLO, STOP, steps.wait(0.4), *second]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        response = ask(client, n=2).pipe(to_response()).run()
    assert [each.message.content for each in response.choices if each.message] == ["Hello", "b"]


def test_error_after_the_finish_reason_is_reported(read: Face) -> None:
    script = [HELLO, STOP, raw('{"error":{"message":"late"}}'), steps.hang()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        *texts, error = read(ask(client).pipe(text()))
    assert texts == ["Hello"]
    assert isinstance(error, ReportedError)


def is_unfinished(event: CompletionEvent) -> bool:
    return event.data.choices[0].finish_reason is None


def by_take_while(stream: EventStream) -> None:
    list(stream.pipe(ops.take_while(is_unfinished, inclusive=True)))


def by_take(stream: EventStream) -> None:
    list(stream.pipe(ops.take(2)))


def by_break(stream: EventStream) -> None:
    for event in stream:
        if not is_unfinished(event):
            break


def by_leaving_with(stream: EventStream) -> None:
    with stream as opened:
        for event in opened:
            if not is_unfinished(event):
                break


def by_async_break(stream: EventStream) -> None:
    async def main() -> None:
        async for event in stream:
            if not is_unfinished(event):
                break

    run(main())


LEAVE: list[Callable[[EventStream], None]] = [
    by_take_while,
    by_take,
    by_break,
    by_leaving_with,
    by_async_break,
]


@pytest.mark.parametrize("leave", LEAVE, ids=lambda leave: leave.__name__)
def test_connection_is_reused_after_leaving_at_finish_reason(
    leave: Callable[[EventStream], None],
) -> None:
    waits: Iterator[float] = iter([0, 0.001, 0.005, 0.02] * 5)
    script = lambda _: [HELLO, STOP, steps.wait(next(waits)), USAGE, steps.done()]  # noqa: E731
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        for _ in range(20):
            leave(ask(client))
        assert server.connections == 1


@pytest.mark.parametrize("leave", LEAVE, ids=lambda leave: leave.__name__)
def test_silent_server_is_left_after_the_finish_reason(
    leave: Callable[[EventStream], None],
) -> None:
    with (
        ScriptedServer([HELLO, STOP, steps.hang()]) as server,
        Mistral(server_url=server.url) as client,
    ):
        leave(ask(client))
        assert server.requests[0].wait_closed()


def test_nothing_is_emitted_after_leaving_at_the_finish_reason() -> None:
    received: list[CompletionEvent] = []
    script = [HELLO, STOP, steps.wait(0.02), steps.text("!"), USAGE, steps.done()]
    with ScriptedServer(script, script) as server, Mistral(server_url=server.url) as client:
        seen = ask(client).pipe(ops.do_action(received.append))
        list(seen.pipe(ops.take_while(is_unfinished, inclusive=True)))
        by_take_while(ask(client))  # waits for the connection to return
        assert server.connections == 1
    assert len(received) == 2


def test_close_after_the_finish_reason_closes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "END_GRACE_SECONDS", 60.0)
    with (
        ScriptedServer([HELLO, STOP, steps.hang()]) as server,
        Mistral(server_url=server.url) as client,
    ):
        answer, received = ask(client), list[CompletionEvent]()
        answer.subscribe(received.append)
        assert eventually(lambda: len(received) == 2)
        answer.close()
        assert answer.outcome is not None
        assert answer.outcome.status == "cancelled"
        assert server.requests[0].wait_closed()


# --- a last event without a blank line --------------------------------------------------

LAST: dict[str, tuple[Script, list[str]]] = {
    "a finish_reason": ([HELLO, raw('{"choices":[{"finish_reason":"stop"}]}', "\n")], ["Hello"]),
    "without a line end": ([HELLO, raw('{"choices":[{"finish_reason":"stop"}]}', "")], ["Hello"]),
    "text and a finish_reason": (
        [raw('{"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}', "\r\n")],
        ["Hi"],
    ),
    "[DONE]": ([HELLO, raw("[DONE]", "")], ["Hello"]),
    "[DONE] and a line end": ([HELLO, raw("[DONE]", "\n")], ["Hello"]),
}


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize(("script", "texts"), LAST.values(), ids=LAST)
def test_last_event_needs_no_blank_line_in_a_complete_body(
    script: list[Step], texts: list[str], framing: Any, read: Face
) -> None:
    with (
        ScriptedServer([*script, steps.end()], framing=framing) as server,
        Mistral(server_url=server.url) as client,
    ):
        assert read(ask(client).pipe(text())) == texts


@pytest.mark.parametrize(("script", "texts"), LAST.values(), ids=LAST)
def test_unfinished_last_event_is_discarded_on_a_broken_body(
    script: list[Step], texts: list[str], read: Face
) -> None:
    with (
        ScriptedServer([*script, steps.drop()]) as server,
        Mistral(server_url=server.url) as client,
    ):
        assert isinstance(read(ask(client).pipe(text()))[-1], Exception)


def test_last_event_needs_no_blank_line_in_a_custom_pipe() -> None:
    script = [*LAST["a finish_reason"][0], steps.end()]
    with ScriptedServer(script) as server:
        piped = blocks(post(server.url, {}, b"{}", None)).pipe(lines(), events())
        assert len(list(piped)) == 1, "the standard discards it"
    with ScriptedServer(script) as server:
        piped = blocks(post(server.url, {}, b"{}", None)).pipe(lines(), events())
        assert list(piped.pipe(completions(), text())) == ["Hello"]


# --- accept_clean_end ------------------------------------------

BODIES: dict[str, list[Step]] = {
    "no event": [],
    "comments": [steps.comment(), steps.comment()],
    "a role": [steps.role()],
    "an empty delta": [steps.empty()],
    "half an event": [HELLO, steps.raw(b'data: {"choices": [{"del')],
    "half a line": [HELLO, steps.raw(b"da")],
    "no data": [HELLO, steps.raw(b"event: message\n")],
    "status 204": [steps.status(204, body=b"")],
}


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_body_without_an_answer_is_incomplete(body: list[Step], lenient: bool, read: Face) -> None:
    script = body if body == BODIES["status 204"] else [steps.headers(), *body, steps.end()]
    with (
        ScriptedServer(script) as server,
        Mistral(server_url=server.url, accept_clean_end=lenient) as client,
    ):
        error = read(ask(client))[-1]
    assert isinstance(error, IncompleteStreamError)
    assert "accept_clean_end" not in str(error)


@pytest.mark.parametrize(
    "useful",
    [HELLO, steps.thinking("hm"), delta(reasoning="hm"), steps.tool_call(name="f", arguments="{}")],
)
def test_clean_end_after_useful_content_is_accepted(useful: Step, read: Face) -> None:
    script = [steps.role(), useful, steps.end()]
    with (
        ScriptedServer(script) as server,
        Mistral(server_url=server.url, accept_clean_end=True) as client,
    ):
        assert len(read(ask(client))) == 2


# --- reasoning, keep-alives, wrong types -------------------------------------------


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_reasoning_counts_as_thinking(key: str, read: Face) -> None:
    script = [*[delta(**{key: "thought "})] * 8, steps.text("42"), STOP, steps.done()]
    with ScriptedServer(lambda _: script) as server, Mistral(server_url=server.url) as client:
        assert read(ask(client).pipe(thinking())) == ["thought "] * 8
        body = b"".join(ui_message_stream(ask(client), heartbeat=None))
        assert body.count(b'"type":"reasoning-delta"') == 8


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_reasoning_restarts_the_timeouts(key: str) -> None:
    thoughts = [each for _ in range(8) for each in (delta(**{key: "thought "}), steps.wait(0.1))]
    script = [*thoughts, steps.text("42"), STOP, steps.done()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        answer = ask(client, timeouts=Timeouts(first=0.6, gap=0.6))
        assert list(answer.pipe(thinking())) == ["thought "] * 8


KEEP_ALIVES = [
    "null",
    '""',
    "[]",
    "true",
    "0",
    "ping",
    ": PROCESSING",
    '"[DONE]"',
    '{"choices":[null]}',
]


def test_keep_alive_events_are_skipped(read: Face) -> None:
    named = [steps.raw(f"event: {name}\ndata: now\n\n".encode()) for name in ("ping", "heartbeat")]
    script = [HELLO, *map(raw, KEEP_ALIVES), *named, steps.text("!"), STOP, steps.done()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        events = read(ask(client))
    assert [event.data.choices[0].delta.content for event in events] == ["Hello", "!", ""]


def test_wrong_types_lose_no_text(read: Face) -> None:
    wrong = {"id": 5, "created": "2026-11-30", "usage": "none"}
    choice = {"index": 0, "delta": {"content": 1, "role": 7}, "finish_reason": 1}
    script = [HELLO, raw(json.dumps({"choices": [choice], **wrong})), STOP, steps.done()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        assert read(ask(client).pipe(text())) == ["Hello", "1"]


def test_whole_message_in_one_event_is_the_answer(read: Face) -> None:
    whole = {"index": 0, "message": {"content": "whole"}, "finish_reason": "stop"}
    script = [raw(json.dumps({"choices": [whole]})), steps.end()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        assert read(ask(client).pipe(text())) == ["whole"]
