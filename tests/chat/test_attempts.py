"""The attempts of a call: they end once, with one outcome."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import reactivex
from faces import BOUND, Face, eventually, run

from rxmistral import (
    CompletionEvent,
    DroppedStreamError,
    Limit,
    Mistral,
    Outcome,
    Resume,
    Retry,
    StatusError,
    StreamTimeoutError,
    Timeouts,
    UnfinishedToolCall,
    finish_reason,
    on_outcome,
    text,
    until_finished,
)
from rxmistral.completions.accumulator import CompletionAccumulator
from rxmistral.testing import Script, ScriptedServer, steps

MESSAGES = [{"role": "user", "content": "?"}]
ANSWER: Script = [
    steps.role(),
    "Hel",
    "lo",
    steps.finish(),
    steps.usage(3, 2),
    steps.done(),
]


def outcomes_of(read: Face, script: Script, **options: Any) -> tuple[Outcome, Outcome]:
    """Returns the outcomes of `on_outcome` and of the stream."""
    seen: list[Outcome] = []
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES, **options)
        read(stream.pipe(on_outcome(seen.append)))
        assert eventually(lambda: len(seen) == 1)
        assert stream.outcome is not None
        return seen[0], stream.outcome


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (ANSWER, "completed"),
        (["Hel", "lo", steps.finish("length")], "completed"),
        ([steps.status(503, body={})], "refused"),
        (["Hel", "lo", steps.hang()], "timed_out"),
        ([steps.hang()], "timed_out"),
        (["Hel", "lo", steps.drop()], "dropped"),
        (["Hel", "lo"], "truncated"),
        (["Hel", "lo", steps.error("busy")], "reported"),
        (["Hel", "lo", steps.finish("error")], "reported"),
        ([steps.drop()], "failed"),
        (["Hel", "lo", steps.raw(b"data: {\n\n")], "failed"),
    ],
)
def test_outcome_status_names_the_ending(read: Face, script: Script, status: str) -> None:
    timeouts = Timeouts(first=0.5, gap=0.5) if status == "timed_out" else Timeouts()
    for outcome in outcomes_of(read, script, timeouts=timeouts):
        assert outcome.status == status
        assert outcome.requests == 1
        assert (outcome.error is None) == (status == "completed")
        content = [choice.message.content for choice in outcome.response.choices]  # type: ignore[union-attr]
        assert content in (["Hello"], [])
        assert outcome.started <= time.time()


def test_outcome_of_completed_answer_is_whole(read: Face) -> None:
    for outcome in outcomes_of(read, ANSWER):
        assert outcome.finish_reason == "stop"
        assert outcome.usage is not None
        assert outcome.usage.completion_tokens == 2
        assert outcome.usage_is_exact
        assert outcome.seconds_to_headers is not None
        assert outcome.seconds_to_first_token is not None
        assert outcome.seconds_to_last_token is not None
        assert 0 <= outcome.seconds_to_first_token <= outcome.seconds_to_last_token


def test_outcome_shows_finish_reason_length(read: Face) -> None:
    for outcome in outcomes_of(read, ["Hel", steps.finish("length"), steps.done()]):
        assert (outcome.status, outcome.finish_reason) == ("completed", "length")


def test_usage_is_none_and_not_exact_when_not_sent(read: Face) -> None:
    for outcome in outcomes_of(read, ["Hel", steps.done()]):
        assert (outcome.usage, outcome.usage_is_exact) == (None, False)
        assert outcome.tokens_per_second is None


def test_outcome_times_are_measured_at_the_wire(read: Face) -> None:
    script: Script = [
        steps.headers(),
        steps.wait(0.05),
        "a",
        steps.wait(0.3),
        "b",
        steps.wait(0.02),
        "c",
        steps.finish(),
        steps.usage(1, 3),
        steps.done(),
    ]
    for outcome in outcomes_of(read, script):
        assert outcome.longest_gap is not None
        assert outcome.longest_gap >= 0.05  # less than the wait, as the machine may be busy
        assert outcome.seconds_to_first_token is not None
        assert outcome.seconds_to_first_token >= 0.05
        assert outcome.seconds_to_last_token is not None
        assert outcome.seconds_to_last_token >= 0.37
        assert outcome.seconds_to_last_token >= outcome.seconds_to_first_token + 0.05
        assert outcome.tokens_per_second == pytest.approx(
            3 / (outcome.seconds_to_last_token - outcome.seconds_to_first_token)
        )


def test_only_a_broken_tool_call_is_marked_unfinished() -> None:
    script: Script = [
        steps.tool_call(index=0, id="a", name="f", arguments='{"x":1}'),
        steps.tool_call(index=1, id="b", name="g", arguments='{"y":'),
        steps.drop(),
    ]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES)
        with pytest.raises(DroppedStreamError) as raised:
            stream.run()
        assert stream.outcome is not None
        for response in (raised.value.partial, stream.outcome.response):
            assert response is not None
            message = response.choices[0].message
            assert message is not None
            whole, half = message.tool_calls or ()
            assert (whole.id, isinstance(whole, UnfinishedToolCall)) == ("a", False)
            assert (half.id, isinstance(half, UnfinishedToolCall)) == ("b", True)
            assert half.function.arguments == '{"y":'
            assert msgspec.json.encode(response)


# --- cancelled -------------------------------------------------------------------


def test_outcome_is_cancelled_when_the_loop_is_left() -> None:
    seen: list[Outcome] = []
    script: Script = ["Hel", steps.hang()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES)
        for _ in stream.pipe(on_outcome(seen.append)):
            break
        assert eventually(lambda: len(seen) == 1)
        assert stream.outcome is not None
        for outcome in (seen[0], stream.outcome):
            assert (outcome.status, outcome.error) == ("cancelled", None)
            assert outcome.response.choices[0].message.content == "Hel"  # type: ignore[union-attr]


def test_dispose_reports_the_outcome_before_it_returns() -> None:
    seen: list[Outcome] = []
    with ScriptedServer([steps.hang()]) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES)
        subscription = stream.pipe(on_outcome(seen.append)).subscribe()
        assert stream.outcome is None
        subscription.dispose()
        assert [outcome.status for outcome in seen] == ["cancelled"]
        subscription.dispose()
        assert len(seen) == 1


def test_with_block_has_an_outcome_only_afterwards() -> None:
    script: Script = ["Hel", steps.hang()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        with client.chat.stream(model="m", messages=MESSAGES) as stream:
            first = next(iter(stream))
            assert isinstance(first, CompletionEvent)
            assert stream.outcome is None
        assert stream.outcome is not None
        assert stream.outcome.status == "cancelled"


def test_async_with_block_has_an_outcome_only_afterwards() -> None:
    async def main() -> None:
        with ScriptedServer(ANSWER) as server:
            async with Mistral(server_url=server.url) as client:
                stream = client.chat.stream_async(model="m", messages=MESSAGES)
                async with stream:
                    assert stream.outcome is None
                    assert [token async for token in stream.pipe(text())] == ["Hel", "lo"]
                assert stream.outcome is not None
                assert stream.outcome.status == "completed"
                assert stream.outcome.response.choices[0].message.content == "Hello"  # type: ignore[union-attr]

    run(main())


def test_until_finished_completes() -> None:
    seen: list[Outcome] = []
    with ScriptedServer(ANSWER) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES)
        list(stream.pipe(on_outcome(seen.append), until_finished()))
        assert [outcome.status for outcome in seen] == ["completed"]


def test_outcome_is_failed_when_the_subscriber_raises() -> None:
    seen: list[Outcome] = []

    def fail(_: object) -> None:
        raise TimeoutError("the subscriber's own")

    with ScriptedServer(ANSWER) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES)
        errors: list[Exception] = []
        stream.pipe(on_outcome(seen.append)).subscribe(fail, errors.append)
        assert eventually(lambda: len(errors) == 1)
        assert stream.outcome is not None
        for outcome in (seen[0], stream.outcome):
            assert outcome.status == "failed"
            assert isinstance(outcome.error, TimeoutError)
    assert len(seen) == 1


def test_each_subscription_has_its_own_outcome() -> None:
    seen: list[Outcome] = []
    failing: Script = ["Hel", steps.drop()]
    with ScriptedServer(ANSWER, failing) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES)
        observed = stream.pipe(on_outcome(seen.append))
        observed.run()
        with pytest.raises(DroppedStreamError):
            observed.run()
        assert [outcome.status for outcome in seen] == ["completed", "dropped"]
        assert stream.outcome is not None
        assert stream.outcome.status == "dropped"


def test_requests_are_counted_through_other_operators() -> None:
    seen: list[Outcome] = []
    busy: Script = [steps.status(503, body={})]
    scripts: list[Script] = [busy, ["Hel", steps.drop()], ["lo", steps.done()]]
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(
            model="m", messages=MESSAGES, retry=Retry(initial=0.001), resume=Resume()
        )
        tokens = stream.filter(lambda _: True).pipe(on_outcome(seen.append), text())
        assert list(tokens) == ["Hel", "lo"]
    (outcome,) = seen
    assert (outcome.requests, outcome.resumed) == (3, 1)


def test_outcome_of_an_opened_stream_counts_its_requests() -> None:
    seen: list[Outcome] = []

    async def main() -> None:
        with ScriptedServer([steps.status(503, body={})], ANSWER) as server:
            async with Mistral(server_url=server.url, retry=Retry(initial=0.001)) as client:
                stream = await client.chat.stream_async(model="m", messages=MESSAGES)
                assert [_ async for _ in stream.pipe(on_outcome(seen.append))]

    run(main())
    assert [outcome.requests for outcome in seen] == [2]


def test_outcome_of_a_recording_counts_no_requests() -> None:
    seen: list[Outcome] = []
    reactivex.from_iterable(()).pipe(on_outcome(seen.append)).subscribe()
    (outcome,) = seen
    assert (outcome.status, outcome.requests, outcome.seconds_to_headers) == ("completed", 0, None)


@pytest.mark.parametrize("ends", [steps.done(), steps.drop()])
def test_error_of_on_outcome_callback_ends_the_stream(read: Face, ends: Any) -> None:
    def fail(_: Outcome) -> None:
        raise ZeroDivisionError

    with ScriptedServer(["Hel", ends]) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES)
        assert isinstance(read(stream.pipe(on_outcome(fail)))[-1], ZeroDivisionError)


def test_memory_of_a_stream_is_bounded() -> None:
    """The partial response of a broken answer is kept, up to 16 MiB of text."""
    piece = "x" * 100_000
    script: Script = [*[piece] * 300, steps.drop()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        received = 0
        with pytest.raises(DroppedStreamError) as raised:
            for token in client.chat.stream(model="m", messages=MESSAGES).pipe(text()):
                received += len(token)
    assert received == 30_000_000
    assert raised.value.partial is not None
    kept = raised.value.partial.choices[0].message.content  # type: ignore[union-attr]
    assert isinstance(kept, str)
    assert 16 * 1024 * 1024 <= len(kept) <= 17 * 1024 * 1024


# --- threads ---------------------------------------------------------------------


@pytest.mark.parametrize("reader", ["thread"], indirect=True)  # it has no other thread
def test_attempts_may_end_before_subscribe_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All attempts end before `subscribe` has the Disposable of the first."""

    def overtake(do: Callable[[], object], *_: object, **__: object) -> None:
        thread = threading.Thread(target=do)
        thread.start()
        thread.join(BOUND)

    monkeypatch.setattr(sys.modules["rxmistral.wire.reader"], "run_on_thread", overtake)
    busy: Script = [steps.status(503, body={})]
    retry = Retry(initial=0.001)
    with (
        ScriptedServer(busy, busy, ANSWER) as server,
        Mistral(server_url=server.url, retry=retry) as client,
    ):
        received: list[Any] = []
        client.chat.stream(model="m", messages=MESSAGES).pipe(text()).subscribe(
            received.append, received.append, lambda: received.append("end")
        )
        assert received == ["Hel", "lo", "end"]


def test_dispose_ends_the_wait_before_a_retry() -> None:
    waiting = threading.Event()
    retry = Retry(initial=60, on_retry=lambda *_: waiting.set())
    with ScriptedServer([steps.status(503, body={})]) as server:
        with Mistral(server_url=server.url, retry=retry) as client:
            subscription = client.chat.stream(model="m", messages=MESSAGES).subscribe()
            assert waiting.wait(BOUND)
            subscription.dispose()  # the reader's thread ends: a fixture checks that
        assert len(server.requests) == 1


def test_cancelled_task_leaves_nothing_before_a_retry() -> None:
    waiting = threading.Event()
    retry = Retry(initial=60, on_retry=lambda *_: waiting.set())

    async def main() -> None:
        with ScriptedServer([steps.status(503, body={})]) as server:
            async with Mistral(server_url=server.url, retry=retry) as client:

                async def read() -> None:
                    async for _ in client.chat.stream_async(model="m", messages=MESSAGES):
                        pass

                task = asyncio.create_task(read())
                await asyncio.to_thread(waiting.wait, BOUND)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    run(main())


def test_attempts_use_one_connection_at_a_time(read: Face) -> None:
    """Also if an error is reported in the middle of a body, which is not read to its end."""
    broken: Script = [steps.role(), steps.error("busy"), steps.hang()]
    opened: list[int] = []

    def answer(request: Any) -> Script:
        opened.append(server.open_connections)
        return broken if request.number < 2 else ANSWER

    with ScriptedServer(answer) as server:
        retry = Retry(initial=0)
        with Mistral(server_url=server.url, retry=retry) as client:
            assert read(client.chat.stream(model="m", messages=MESSAGES).pipe(text()))[-1] == "lo"
    assert len(opened) == 3
    assert max(opened) <= 2  # the server may notice the end of the old one a moment later


def test_script_prints_the_whole_answer_after_a_retry() -> None:
    with ScriptedServer([steps.status(503, body={})], ANSWER) as server:
        code = f"""
from rxmistral import Mistral, Retry, text
client = Mistral(server_url={server.url!r}, retry=Retry(initial=0.2, jitter=0))
client.chat.stream(model="m", messages={MESSAGES!r}).pipe(text()).subscribe(print)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
    assert done.stdout == "Hel\nlo\n"


def test_on_retry_receives_errors_without_the_key() -> None:
    key = "secret-key-0123456789"
    seen: list[str] = []
    retry = Retry(
        initial=0.001, on_retry=lambda error, *_: seen.append(f"{error} {vars(error)} {error!r}")
    )
    quoting: Script = [steps.status(503, body={"message": f"busy, {key}"})]
    framed: Script = [steps.error(f"bad key {key}")]
    with (
        ScriptedServer(quoting, framed, ANSWER) as server,
        Mistral(key, server_url=server.url, retry=retry) as client,
    ):
        client.chat.stream(model="m", messages=MESSAGES).run()
    assert len(seen) == 2
    assert not any(key in text for text in seen)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("retry", 3),
        ("resume", True),
        ("limit", 5),
        ("timeouts", 10),
    ],
)
def test_wrong_policies_are_refused_at_the_call(name: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=name):
        Mistral(**{name: wrong})
    with pytest.raises(TypeError, match=name):
        Mistral("k").chat.stream(model="m", messages=MESSAGES, **{name: wrong})


def test_timeouts_and_timeout_ms_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        Mistral(timeouts=Timeouts(), timeout_ms=10)


def test_call_turns_off_policies_of_the_client(read: Face) -> None:
    options: dict[str, Any] = {"retry": Retry(), "resume": Resume(), "limit": Limit(1)}
    scripts: list[Script] = [[steps.status(503, body={})], ["a", steps.drop()]]
    with (
        ScriptedServer(*scripts) as server,
        Mistral(server_url=server.url, **options) as client,
    ):
        off = dict.fromkeys(options)
        (error,) = read(client.chat.stream(model="m", messages=MESSAGES, **off))
        assert isinstance(error, StatusError)
        *_, error = read(client.chat.stream(model="m", messages=MESSAGES, **off))
        assert isinstance(error, DroppedStreamError)


def test_text_of_an_answer_is_freed_with_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are large and many: their memory must not wait for a garbage collection."""
    built: list[weakref.ref[CompletionAccumulator]] = []
    build = CompletionAccumulator.__init__

    def remember(self: CompletionAccumulator, **options: Any) -> None:
        build(self, **options)
        built.append(weakref.ref(self))

    monkeypatch.setattr(CompletionAccumulator, "__init__", remember)
    with ScriptedServer(ANSWER) as server, Mistral(server_url=server.url) as client:
        gc.collect()
        gc.disable()
        try:
            stream = client.chat.stream(model="m", messages=MESSAGES)
            assert list(stream.pipe(text())) == ["Hel", "lo"]
            assert stream.outcome is not None
            del stream
            assert eventually(lambda: built[0]() is None)
        finally:
            gc.enable()


@pytest.mark.parametrize("policy", [{"retry": Retry(initial=0.001)}, {"resume": Resume()}])
def test_failure_is_hidden_when_an_attempt_follows(read: Face, policy: dict[str, Any]) -> None:
    begun: list[Any] = ["a"] if "resume" in policy else []
    scripts: list[Script] = [[*begun, steps.finish("error"), steps.done()], ["b", *ANSWER[3:]]]
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url, **policy) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES)
        assert read(stream.pipe(finish_reason())) == ["stop"]


def test_total_timeout_is_named_in_a_continuation(read: Face) -> None:
    scripts: list[Script] = [["The ", steps.drop()], [steps.hang()]]
    with ScriptedServer(*scripts) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(
            model="m", messages=MESSAGES, resume=Resume(3), timeouts=Timeouts(total=1)
        )
        *_, error = read(stream)
        assert isinstance(error, StreamTimeoutError)
        assert (error.clock, error.seconds) == ("total", 1)
        assert error.partial is not None
        assert error.partial.choices[0].message.content == "The "  # type: ignore[union-attr]
        assert stream.outcome is not None
        assert stream.outcome.status == "timed_out"
