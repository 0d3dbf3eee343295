"""fallback and hedge over real sockets, and mid-stream fallback."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from faces import BOUND, Face, by_for, eventually

from rxmistral import (
    AllFailedError,
    CompletionEvent,
    DroppedStreamError,
    Mistral,
    Outcome,
    StatusError,
    StoppedError,
    Stream,
    StreamError,
    UserMessage,
    fallback,
    hedge,
    on_outcome,
    text,
)
from rxmistral.chat.event_stream import EventStream
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps


def hedge_after(delay: float) -> Callable[..., Stream[CompletionEvent]]:
    return lambda *streams: hedge(*streams, delay=delay)


both = pytest.mark.parametrize("combine", [fallback, hedge_after(100)], ids=["fallback", "hedge"])


WHOLE: Script = [steps.role(), "Hel", "lo", steps.finish(), steps.done()]
BUSY: Script = [steps.status(503, body={"message": "busy"})]


def stream_from(client: Mistral, model: str = "m") -> EventStream:
    return client.chat.stream(model=model, messages=[UserMessage(content="Hi")])


FAILURES: dict[str, Script] = {
    "refused": BUSY,
    "dropped before the headers": [steps.drop()],
    "dropped after the headers": [steps.headers(), steps.drop()],
    "dropped after the role": [steps.role(), steps.empty(), steps.abort()],
    "reported": [steps.role(), steps.error("overloaded")],
    "truncated": [steps.role()],
}


@both
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_every_failure_starts_the_next_stream(combine: Any, failure: Script, read: Face) -> None:
    with ScriptedServer(failure, WHOLE) as server, Mistral(server_url=server.url) as client:
        assert read(combine(stream_from(client), stream_from(client)).pipe(text())) == ["Hel", "lo"]
        assert len(server.requests) == 2


# --- its outcome, and its end ---


@both
def test_outcome_is_that_of_the_winner(combine: Any, read: Face) -> None:
    busy = [steps.header("mistral-correlation-id", "refused"), *BUSY]
    whole = [steps.header("mistral-correlation-id", "whole"), *WHOLE]
    with ScriptedServer(busy, whole) as server, Mistral(server_url=server.url) as client:
        answer = combine(stream_from(client), stream_from(client))
        words = answer.text().words()
        assert words.outcome is None
        read(words)
        outcome = words.outcome
        assert (outcome.status, outcome.text, outcome.finish_reason) == (
            "completed",
            "Hello",
            "stop",
        )
        assert (outcome.request_id, outcome.requests) == ("whole", 2)
        assert answer.outcome is outcome


@both
def test_outcome_has_the_error_when_all_streams_fail(combine: Any, read: Face) -> None:
    with ScriptedServer(BUSY, BUSY) as server, Mistral(server_url=server.url) as client:
        tokens = combine(stream_from(client), stream_from(client)).text()
        (error,) = read(tokens)
        assert isinstance(error, AllFailedError)
        assert type(tokens.outcome.error) is AllFailedError
        assert (tokens.outcome.text, tokens.outcome.requests) == ("", 2)


@both
def test_readers_within_a_block_share_one_run(combine: Any) -> None:
    with ScriptedServer(BUSY, WHOLE) as server, Mistral(server_url=server.url) as client:
        with combine(stream_from(client), stream_from(client)) as answer:
            assert list(answer.text()) == ["Hel", "lo"]
            assert answer.outcome.text == answer.text().join().run() == "Hello"
        assert len(server.requests) == 2
        with answer:
            assert answer.outcome is None


@both
def test_close_of_a_pipe_ends_its_streams(combine: Any) -> None:
    begun = [*WHOLE[:2], steps.hang()]
    with ScriptedServer(begun) as server, Mistral(server_url=server.url) as client:
        tokens = combine(stream_from(client), stream_from(client)).text()
        for token in tokens:
            assert (token, tokens.outcome) == ("Hel", None)
            tokens.close()
        assert server.requests[0].wait_closed()
        assert (tokens.outcome.status, tokens.outcome.text) == ("cancelled", "Hel")


def test_fallback_uses_one_connection_at_a_time() -> None:
    """The next request is sent after the previous one ended, on the same connection."""
    with (
        ScriptedServer(BUSY, BUSY, WHOLE) as server,
        Mistral(server_url=server.url) as client,
    ):
        streams = [stream_from(client) for _ in range(3)]
        assert list(fallback(*streams).pipe(text())) == ["Hel", "lo"]
        assert server.connections == 1


def test_fallback_does_not_restart_after_text() -> None:
    with (
        ScriptedServer([steps.role(), "Hel", steps.drop()]) as server,
        Mistral(server_url=server.url) as client,
    ):
        items = []
        with pytest.raises(StreamError):
            for piece in fallback(stream_from(client), stream_from(client)).pipe(text()):
                items.append(piece)  # noqa: PERF402  # before the error
        assert items == ["Hel"]
        assert len(server.requests) == 1


def test_all_failed_error_quotes_each_refusal() -> None:
    with (
        ScriptedServer(BUSY, BUSY) as server,
        Mistral(server_url=server.url) as client,
        pytest.raises(AllFailedError) as caught,
    ):
        fallback(stream_from(client), stream_from(client)).run()
    assert [type(error) for error in caught.value.errors] == [StatusError, StatusError]
    assert str(caught.value).count("busy") == 2


@both
def test_outcome_counts_the_requests_of_all_streams(combine: Any) -> None:
    """Includes requests that another thread sends later."""
    outcomes: list[Outcome] = []
    silent: Script = [steps.role(), steps.hang()] if combine is not fallback else BUSY
    combine_soon = combine if combine is fallback else hedge_after(0.02)
    with ScriptedServer(silent, WHOLE) as server, Mistral(server_url=server.url) as client:
        combine_soon(stream_from(client), stream_from(client)).pipe(
            on_outcome(outcomes.append)
        ).run()
    (outcome,) = outcomes
    assert outcome.status == "completed"
    assert outcome.requests == 2


def test_loser_connection_is_closed_at_once() -> None:
    def play(request: ReceivedRequest) -> Script:
        if request.json["model"] == "slow":
            return [steps.role(), steps.hang()]
        server.wait_for_requests(2 * (request.number // 2 + 1))  # including the slow one
        return WHOLE

    seconds: list[float] = []
    with ScriptedServer(play) as server, Mistral(server_url=server.url) as client:
        for _ in range(20):
            hedged = hedge(stream_from(client, "slow"), stream_from(client, "quick"), delay=0.01)
            won = [time.monotonic() for _ in hedged.pipe(text())]
            (slow,) = (each for each in server.requests[-2:] if each.json["model"] == "slow")
            assert slow.wait_closed(BOUND)
            assert slow.closed is not None
            seconds.append(slow.closed - won[0])
    assert sorted(seconds)[10] < BOUND / 10, seconds  # about a millisecond


@pytest.mark.parametrize("phase", ["first", "both", "after the win"])
def test_dispose_closes_all_connections(phase: str) -> None:
    silent: Script = [steps.role(), steps.hang()]
    talks: Script = [steps.role(), "Hel", steps.hang()]
    scripts = [silent, talks if phase == "after the win" else silent]
    delay = 60 if phase == "first" else 0.01
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        won = threading.Event()
        hedged = hedge(stream_from(client), stream_from(client), delay=delay)
        subscription = hedged.subscribe(lambda _: won.set())
        server.wait_for_requests(1 if phase == "first" else 2)
        if phase == "after the win":
            assert won.wait(BOUND)
        subscription.dispose()
        for request in server.requests:
            assert request.wait_closed(BOUND)
        assert server.wait_idle(BOUND)
        assert len(server.requests) == (1 if phase == "first" else 2)


def test_closing_a_waiting_stream_ends_the_loop() -> None:
    with (
        ScriptedServer(BUSY, [steps.role(), steps.hang()]) as server,
        Mistral(server_url=server.url) as client,
    ):
        other = stream_from(client)
        ended: list[list[Any]] = []
        stream = fallback(stream_from(client), other)
        loop = threading.Thread(target=lambda: ended.append(by_for(stream)))
        loop.start()
        server.wait_for_requests(2)
        other.close()
        loop.join(BOUND)
        assert [type(error) for error in ended[0]] == [AllFailedError]
        assert isinstance(ended[0][0].errors[1], StoppedError)


@both
def test_slow_subscriber_slows_the_server_down(combine: Any) -> None:
    count = 200_000
    long: Script = [steps.role(), steps.text(*["x" * 100] * count), steps.finish(), steps.done()]
    go_on = threading.Event()
    began = threading.Event()
    with ScriptedServer(long) as server, Mistral(server_url=server.url) as client:

        def collect(_: Any) -> None:
            began.set()
            go_on.wait(BOUND)

        subscription = combine(stream_from(client), stream_from(client)).subscribe(collect)
        assert began.wait(BOUND)
        (request,) = server.requests
        sent = -1

        def stands_still() -> bool:
            nonlocal sent
            before, sent = sent, request.frames
            time.sleep(0.05)  # time enough to send more
            return sent == before

        assert eventually(stands_still)
        assert request.frames < count
        subscription.dispose()
        go_on.set()


SCRIPT = """
import sys
from threading import Event
from rxmistral import Mistral, UserMessage, hedge, text

begun = Event()

def show(piece):
    print(piece, end="", flush=True)
    begun.set()

client = Mistral(server_url=sys.argv[1])
slow, quick = (
    client.chat.stream(model=name, messages=[UserMessage(content="Hi")])
    for name in ("slow", "quick")
)
hedge(slow, quick, delay=0.05).pipe(text()).subscribe(show)
begun.wait()
"""


def test_ending_script_prints_the_whole_answer() -> None:
    """Although the thread of a timer, a daemon, started the stream."""

    def play(request: ReceivedRequest) -> Script:
        if request.json["model"] == "slow":
            return [steps.hang()]
        return [steps.role(), "Hel", steps.wait(0.3), "lo", steps.finish(), steps.done()]

    with ScriptedServer(play) as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), server.url],
            capture_output=True,
            timeout=60,
            check=True,
            text=True,
        )
    assert done.stdout == "Hello"


def test_200_hedges_of_two_equally_fast_servers() -> None:
    """Each has one winner and its whole text; nothing is left behind."""
    dice = random.Random(3)

    def play(request: ReceivedRequest) -> Script:
        name = request.json["model"]
        return [steps.role(), steps.wait(0.001), *20 * [name], steps.finish(), steps.done()]

    wins = {"a": 0, "b": 0}
    before = threading.active_count()
    with (
        ScriptedServer(play) as one,
        ScriptedServer(play) as other,
        Mistral(server_url=one.url) as first,
        Mistral(server_url=other.url) as second,
    ):
        for each in range(10):
            ended = [threading.Event() for _ in range(20)]
            texts: list[list[str]] = [[] for _ in range(20)]
            terminals: list[list[Any]] = [[] for _ in range(20)]
            for number in range(20):
                streams = [stream_from(first, "a"), stream_from(second, "b")]
                dice.shuffle(streams)

                def end(error: Any = None, number: int = number) -> None:
                    terminals[number].append(error)  # noqa: B023  # it is called within the round
                    ended[number].set()  # noqa: B023

                hedged = hedge(*streams, delay=dice.choice([0, 0, 0.001, 0.002]))
                hedged.pipe(text()).subscribe(texts[number].append, end, end)
            assert all(event.wait(BOUND) for event in ended), each
            for items, terminal in zip(texts, terminals, strict=True):
                assert terminal == [None]
                assert items == 20 * [items[0]]
                wins[items[0]] += 1
        assert sum(wins.values()) == 200
        assert all(wins.values())
        requests = len(one.requests) + len(other.requests)
        assert 200 <= requests <= 400
        for server in (one, other):
            for request in server.requests:
                assert request.wait_answered(BOUND)
    assert eventually(lambda: threading.active_count() <= before)


# --- mid-stream fallback ---------------------------------------------------------


def read_resumed(read: Face, *scripts: Script, **more: Any) -> tuple[list[Any], list[Any], Outcome]:
    """Returns the items, the requests (model and messages), and the outcome."""
    seen: list[Outcome] = []
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        streams = [
            client.chat.stream(model=name, messages=[UserMessage(content="?")], **more)
            for name in "abc"
        ]
        items = read(fallback(*streams, resume=True).pipe(on_outcome(seen.append), text()))
        requests = [(each.json["model"], each.json["messages"][1:]) for each in server.requests]
    return items, requests, seen[0]


def prefix(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text, "prefix": True}]


END: Script = [steps.finish(), steps.done()]


def test_resume_asks_the_next_model_for_the_rest(read: Face) -> None:
    items, requests, outcome = read_resumed(
        read, ["The ", "sky ", steps.drop()], ["The sky ", "is ", "blue.", *END]
    )
    assert "".join(items) in ("The sky is blue.", "blue.")
    assert requests == [("a", []), ("b", prefix("The sky "))]
    assert (outcome.status, outcome.requests, outcome.resumed) == ("completed", 2, 1)
    assert outcome.response.choices[0].message.content == "The sky is blue."  # type: ignore[union-attr]


def test_resume_skips_a_model_that_refuses(read: Face) -> None:
    items, requests, _ = read_resumed(
        read,
        ["The ", steps.drop()],
        [steps.status(400, body={"message": "no prefix"})],
        ["sky", *END],
    )
    assert items[-1] == "sky"
    assert requests == [("a", []), ("b", prefix("The ")), ("c", prefix("The "))]


def test_resume_emits_the_break_when_every_model_refuses(read: Face) -> None:
    refusal: Script = [steps.status(400, body={"message": "no prefix"})]
    (*_, error), requests, outcome = read_resumed(read, ["The ", steps.drop()], refusal, refusal)
    assert isinstance(error, DroppedStreamError)
    assert "no prefix" in error.__notes__[0]
    assert error.partial is not None
    assert error.partial.choices[0].message.content == "The "  # type: ignore[union-attr]
    assert (len(requests), outcome.status) == (3, "dropped")


@pytest.mark.parametrize(
    ("script", "more"),
    [
        (["a", steps.tool_call(name="f", arguments="{"), steps.drop()], {}),
        ([steps.thinking("Hm"), steps.drop()], {}),
        (["a", steps.drop()], {"response_format": {"type": "json_object"}}),
    ],
)
def test_resume_asks_nobody_when_the_answer_cannot_continue(
    read: Face, script: Script, more: dict[str, Any]
) -> None:
    (*_, error), requests, _ = read_resumed(read, script, **more)
    assert isinstance(error, StreamError)
    assert len(requests) == 1


def test_dispose_ends_the_continuation() -> None:
    scripts: list[Script] = [["a", steps.drop()], ["b", steps.hang()]]
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        streams = [
            client.chat.stream(model="m", messages=[UserMessage(content="?")]) for _ in range(2)
        ]
        for token in fallback(*streams, resume=True).pipe(text()):
            if token == "b":
                break
        assert server.requests[1].wait_closed()
