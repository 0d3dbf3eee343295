from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from faces import BOUND, Face, eventually
from reactivex import Observable, Subject, abc, timer
from reactivex.disposable import SerialDisposable
from reactivex.scheduler import (
    CurrentThreadScheduler,
    HistoricalScheduler,
    ImmediateScheduler,
    TrampolineScheduler,
    VirtualTimeScheduler,
)
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.testing import TestScheduler

from rxmistral import (
    Conversation,
    DroppedStreamError,
    EventStream,
    IncompleteStreamError,
    Limit,
    Mistral,
    MistralError,
    RateLimitError,
    RequestTimeoutError,
    Resume,
    Retry,
    StatusError,
    StreamTimeoutError,
    Timeouts,
    answer_each,
)
from rxmistral.testing import (
    Script,
    ScriptedServer,
    abort,
    drop,
    finish,
    hang,
    record,
    scripted_client,
    steps,
    wait,
)

HOUR = 3600.0
MESSAGES = [{"role": "user", "content": "Hi"}]
SLOW_RETRY = Retry(initial=30, maximum=30, jitter=0)
HELLO = ["Hel", wait(2), "lo", finish()]


@pytest.fixture(params=[VirtualTimeScheduler, TestScheduler, HistoricalScheduler])
def scheduler(request: pytest.FixtureRequest) -> VirtualTimeScheduler:
    return request.param()


def ask(client: Mistral, prompt: str = "Hi", **options: Any) -> EventStream:
    messages = [{"role": "user", "content": prompt}]
    return client.chat.stream(model="m", messages=messages, **options)


class Seen:
    """What a subscriber receives, with the seconds of a scheduler since it subscribed."""

    def __init__(self, answer: EventStream, scheduler: VirtualTimeScheduler) -> None:
        self.items: list[tuple[float, str]] = []
        self.error: Exception | None = None
        self.ended: list[float] = []
        began = scheduler.now

        def now() -> float:
            return (scheduler.now - began).total_seconds()

        def on_error(error: Exception) -> None:
            self.error = error
            self.ended.append(now())

        self.subscription = answer.text().subscribe(
            lambda item: self.items.append((now(), item)),
            on_error,
            lambda: self.ended.append(now()),
        )


def advance(scheduler: VirtualTimeScheduler, seconds: float = 10 * HOUR) -> None:
    scheduler.advance_by(seconds)


def test_answer_arrives_in_virtual_time(scheduler: VirtualTimeScheduler) -> None:
    client = scripted_client(["Hel", wait(HOUR), "lo", finish()], scheduler=scheduler)
    seen = Seen(ask(client, timeouts=Timeouts(gap=2 * HOUR)), scheduler)
    assert seen.items == []
    advance(scheduler)
    assert seen.items == [(0, "Hel"), (HOUR, "lo")]
    assert (seen.ended, seen.error) == ([HOUR], None)


def test_silence_is_a_timeout_and_then_a_retry(scheduler: VirtualTimeScheduler) -> None:
    waits: list[float] = []
    retry = Retry(
        initial=30, maximum=30, jitter=0, on_retry=lambda _error, _attempt, wait: waits.append(wait)
    )
    client = scripted_client(
        [hang()], HELLO, scheduler=scheduler, timeouts=Timeouts(first=60), retry=retry
    )
    answer = ask(client)
    seen = Seen(answer, scheduler)
    advance(scheduler)
    assert seen.items == [(90, "Hel"), (92, "lo")]
    assert waits == [30]
    assert answer.outcome is not None
    assert answer.outcome.requests == 2
    assert answer.outcome.seconds_to_first_token == 90
    assert answer.outcome.longest_gap == 2


@pytest.mark.parametrize(
    ("script", "timeouts", "kind", "clock", "ended"),
    [
        ([hang()], Timeouts(first=5), RequestTimeoutError, "first", 5),
        ([steps.headers(), hang()], Timeouts(first=5), StreamTimeoutError, "first", 5),
        ([steps.role(), wait(3), steps.role(), hang()], Timeouts(first=5), None, "first", 5),
        (["a", wait(3), "b", hang()], Timeouts(gap=5), StreamTimeoutError, "gap", 8),
        (["a", wait(60), "b", finish()], Timeouts(), StreamTimeoutError, "gap", 60),
        ([steps.thinking("a"), hang()], Timeouts(thinking_gap=7), None, "thinking_gap", 7),
        (["a", wait(9), "b", wait(9), "c"], Timeouts(total=10), None, "total", 10),
    ],
)
def test_timeout_expires_on_the_scheduler(
    script: Any, timeouts: Timeouts, kind: Any, clock: str, ended: float
) -> None:
    scheduler = VirtualTimeScheduler()
    answer = ask(scripted_client(script, scheduler=scheduler, timeouts=timeouts))
    seen = Seen(answer, scheduler)
    advance(scheduler)
    assert isinstance(seen.error, kind or StreamTimeoutError)
    assert seen.error.clock == clock
    assert seen.ended == [ended]
    if isinstance(seen.error, StreamTimeoutError) and seen.items:
        assert seen.error.partial is not None
        assert seen.error.partial.text == "".join(text for _, text in seen.items)
    assert answer.outcome is not None
    assert answer.outcome.status == "timed_out"


def test_silence_after_the_finish_is_not_an_error() -> None:
    scheduler = VirtualTimeScheduler()
    client = scripted_client(["Hello", finish(), hang()], scheduler=scheduler)
    seen = Seen(ask(client), scheduler)
    advance(scheduler)
    assert (seen.ended, seen.error) == ([0.25], None)


def test_total_covers_the_waits_between_requests() -> None:
    scheduler = VirtualTimeScheduler()
    client = scripted_client(
        [steps.status(503)],
        [steps.status(503)],
        scheduler=scheduler,
        timeouts=Timeouts(total=50),
        retry=Retry(initial=30, maximum=30, jitter=0),
    )
    seen = Seen(ask(client), scheduler)
    advance(scheduler)
    assert isinstance(seen.error, StatusError)
    assert seen.ended == [30]


def test_broken_answer_is_resumed(scheduler: VirtualTimeScheduler) -> None:
    client = scripted_client(
        ["Hel", wait(5), drop()], ["lo", finish()], scheduler=scheduler, resume=Resume()
    )
    seen = Seen(ask(client), scheduler)
    advance(scheduler)
    assert seen.items == [(0, "Hel"), (5, "lo")]
    assert client.requests[1].json["messages"][-1]["prefix"] is True


def test_limit_waits_on_the_scheduler(scheduler: VirtualTimeScheduler) -> None:
    limit = Limit(concurrent=1, per_minute=2)
    client = scripted_client(*[HELLO] * 4, scheduler=scheduler, limit=limit)
    seen = [Seen(ask(client), scheduler) for _ in range(4)]
    advance(scheduler)
    assert [each.ended for each in seen] == [[2], [4], [62], [64]]
    assert "0 in use, 0 waiting" in repr(limit)


def test_wait_for_a_limit_counts_for_total() -> None:
    scheduler = VirtualTimeScheduler()
    limit = Limit(concurrent=1)
    client = scripted_client(
        ["a", hang()], scheduler=scheduler, limit=limit, timeouts=Timeouts(gap=60, total=100)
    )
    first, second = ask(client, timeouts=Timeouts(gap=200)), ask(client)
    seen = [Seen(first, scheduler), Seen(second, scheduler)]
    advance(scheduler)
    assert isinstance(seen[1].error, RequestTimeoutError)
    assert [each.ended for each in seen] == [[200], [100]]
    assert "0 in use, 0 waiting" in repr(limit)


def test_retry_after_pauses_the_limit() -> None:
    scheduler = VirtualTimeScheduler()
    refused = [steps.status(429, headers={"Retry-After": "7"})]
    client = scripted_client(refused, HELLO, scheduler=scheduler, limit=Limit(concurrent=3))
    seen = Seen(ask(client), scheduler)
    scheduler.advance_by(1)
    assert isinstance(seen.error, RateLimitError)
    assert Seen(ask(client), scheduler).items == []
    advance(scheduler)
    assert [request.received for request in client.requests] == [0, 7]


@pytest.mark.parametrize("after", [10, 75, 91])
def test_disposed_answer_leaves_nothing_behind(after: float) -> None:
    scheduler, limit = VirtualTimeScheduler(), Limit(concurrent=1, per_minute=9)
    client = scripted_client(
        [hang()],
        ["Hel", hang()],
        scheduler=scheduler,
        limit=limit,
        retry=Retry(initial=30, maximum=30, jitter=0),
    )
    answer = ask(client)
    seen = Seen(answer, scheduler)
    scheduler.advance_by(after)
    seen.subscription.dispose()
    count = len(client.requests)
    advance(scheduler)
    assert (seen.ended, len(client.requests)) == ([], count)
    assert client.requests[-1].disconnected
    assert repr(limit) == "<Limit concurrent=1 (0 in use, 0 waiting), per_minute=9 (0 waiting)>"
    assert answer.outcome is not None
    assert answer.outcome.status == "cancelled"


def test_waiting_answer_leaves_the_limit_when_disposed() -> None:
    scheduler, limit = VirtualTimeScheduler(), Limit(concurrent=1)
    client = scripted_client(HELLO, HELLO, scheduler=scheduler, limit=limit)
    first, second, third = (Seen(ask(client), scheduler) for _ in range(3))
    second.subscription.dispose()
    advance(scheduler)
    assert [first.ended, second.ended, third.ended] == [[2], [], [4]]


def test_answer_each_switches_in_virtual_time() -> None:
    scheduler = VirtualTimeScheduler()
    client = scripted_client(HELLO, HELLO, scheduler=scheduler)
    prompts: Subject[str] = Subject()
    texts: list[str] = []
    answers = prompts.pipe(answer_each(lambda prompt: ask(client, prompt).text()))
    answers.subscribe(texts.append)
    prompts.on_next("one")
    scheduler.advance_by(1)
    prompts.on_next("two")
    advance(scheduler)
    assert texts == ["Hel", "Hel", "lo"]
    assert client.requests[0].cut


def test_tool_loop_runs_in_virtual_time(scheduler: VirtualTimeScheduler) -> None:
    call = steps.tool_call(id="call00001", name="weather", arguments={}, finish="tool_calls")
    scripts: list[Script] = [[wait(5), call], [hang()], [wait(7), "Sunny", finish()]]
    client = scripted_client(*scripts, scheduler=scheduler, retry=SLOW_RETRY)
    conversation = Conversation(client, model="m", tools=[weather])
    seen = Seen(conversation.ask("Hi"), scheduler)
    scheduler.start()
    assert seen.items == [(102, "Sunny")]
    assert seen.ended == [102]
    assert [request.received for request in client.requests] == [0, 5, 95]


@pytest.mark.parametrize("ending", [steps.status(400), "Sunny"])
def test_error_after_tools_arrives_before_time_ends(ending: Any) -> None:
    scheduler, errors = VirtualTimeScheduler(), list[Exception]()
    call = steps.tool_call(id="call00001", name="weather", arguments={}, finish="tool_calls")
    client = scripted_client([call], [wait(9), ending], scheduler=scheduler)
    run = client.chat.run(model="m", messages=MESSAGES, tools=[weather])
    run.text().subscribe(on_error=errors.append)
    scheduler.start()
    assert len(errors) == 1


def weather() -> str:
    """Returns the weather."""
    return "sunny"


def test_tool_may_wait_for_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rxmistral.chat.run._MAX_TOOL_SECONDS", 0.01)
    scheduler, texts = VirtualTimeScheduler(), list[str]()

    def forecast() -> Observable[int]:
        """Returns the weather of tomorrow."""
        return timer(HOUR, scheduler=scheduler)

    call = steps.tool_call(id="call00001", name="forecast", arguments={}, finish="tool_calls")
    client = scripted_client([call], ["Rain", finish()], scheduler=scheduler)
    run = client.chat.run(model="m", messages=MESSAGES, tools=[forecast])
    run.text().subscribe(texts.append)

    def has_text() -> bool:
        scheduler.start()
        return bool(texts)

    assert eventually(has_text)


def test_answer_is_opened_on_the_loop_of_its_scheduler() -> None:
    async def main() -> tuple[list[str], str]:
        client = scripted_client(
            ["Hel", wait(0.01), "lo", finish()],
            scheduler=AsyncIOScheduler(asyncio.get_running_loop()),
        )
        async with client.chat.stream_async(model="m", messages=MESSAGES) as answer:
            await asyncio.sleep(0)  # items that arrive before there is a reader
            return [token async for token in answer.text()], await answer.text().join()

    assert asyncio.run(main()) == (["Hel", "lo"], "Hello")


def opened_answer(scheduler: VirtualTimeScheduler) -> EventStream:
    """Returns an answer whose first item has arrived, without a reader."""
    client = scripted_client(["Hel", wait(HOUR), "lo", finish()], scheduler=scheduler)
    answer = ask(client, timeouts=Timeouts(gap=2 * HOUR))
    opener = threading.Thread(target=lambda: answer.response)
    opener.start()

    def is_open() -> bool:
        scheduler.advance_by(0.001)
        return not opener.is_alive()

    assert eventually(is_open)
    return answer


def test_unread_answer_keeps_its_items_in_virtual_time() -> None:
    scheduler, received = VirtualTimeScheduler(), list[object]()
    answer = opened_answer(scheduler)
    answer.text().subscribe(received.append, on_completed=lambda: received.append("end"))
    assert received == ["Hel"]
    scheduler.start()
    assert received == ["Hel", "lo", "end"]


def test_error_of_a_callback_ends_an_unread_answer() -> None:
    scheduler, errors = VirtualTimeScheduler(), list[Exception]()
    answer = opened_answer(scheduler)
    answer.text().subscribe(fail, errors.append)
    assert [type(error) for error in errors] == [KeyError]
    assert answer.outcome is not None
    assert answer.outcome.status == "failed"


def fail(_: object) -> None:
    raise KeyError("callback")


def test_error_of_a_callback_ends_the_answer() -> None:
    scheduler = VirtualTimeScheduler()
    client = scripted_client(HELLO, scheduler=scheduler, retry=Retry(), limit=Limit(concurrent=1))
    errors: list[Exception] = []
    ask(client).text().map(fail).subscribe(on_error=errors.append)
    advance(scheduler)
    assert [type(error) for error in errors] == [KeyError]
    assert len(client.requests) == 1


def test_callbacks_run_in_the_context_of_the_subscriber() -> None:
    scheduler, name = VirtualTimeScheduler(), ContextVar("name", default="")
    seen: list[str] = []

    def note(*_: object) -> None:
        seen.append(name.get())

    retry = Retry(initial=1, on_retry=note)
    client = scripted_client([hang()], [hang()], HELLO, scheduler=scheduler, retry=retry)
    name.set("subscriber")
    ask(client).text().subscribe(note, note, note)
    ask(client, retry=None).subscribe(note, note, note)
    name.set("other")
    advance(scheduler)
    assert len(seen) == 5
    assert set(seen) == {"subscriber"}


def test_answer_is_read_in_real_time(read: Face) -> None:
    client = scripted_client(["Hel", wait(0.01), "lo", finish()])
    assert read(ask(client).text()) == ["Hel", "lo"]


def test_block_shares_one_request() -> None:
    client = scripted_client(["Hel", "lo", finish()])
    with ask(client) as answer:
        assert answer.response.status_code == 200
        assert list(answer.text()) == ["Hel", "lo"]
        assert answer.to_response().run().text == "Hello"
    assert len(client.requests) == 1


def test_timeout_expires_in_real_time() -> None:
    client = scripted_client(["Hel", hang()], timeouts=Timeouts(gap=0.02))
    with pytest.raises(StreamTimeoutError) as caught:
        ask(client).run()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"


def test_request_without_a_script_fails() -> None:
    client = scripted_client(["Hello", finish()], retry=Retry())
    ask(client).run()
    with pytest.raises(AssertionError, match="no script for <request 1"):
        ask(client).run()


def test_function_answers_every_request() -> None:
    client = scripted_client(lambda request: [request.json["messages"][0]["content"], finish()])
    texts = [ask(client, prompt).text().join().run() for prompt in ("one", "two")]
    assert texts == ["one", "two"]
    request = client.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer scripted-key"
    assert request.wait_answered()


@pytest.mark.parametrize(
    ("ending", "kind"),
    [(drop(), DroppedStreamError), (abort(), DroppedStreamError), ("", IncompleteStreamError)],
)
def test_broken_script_ends_as_a_server_does(ending: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        ask(scripted_client(["Hel", ending])).run()


JUDGED: dict[str, Script] = {
    "refusal": [steps.status(429, body={"message": "slow"}, headers={"Retry-After": "7"})],
    "refusal in frames": [steps.status(503), steps.raw(b"try ", b"again")],
    "page": [steps.status(200, body="<html>down for maintenance</html>")],
    "page with the label of a stream": [steps.raw(b"<html>", b"</html>")],
    "unknown compression": [steps.header("Content-Encoding", "compress"), "Hello", finish()],
    "unlabelled stream": [steps.header("Content-Type", None), "Hello", finish()],
    "bare error": [steps.raw(b'{"object":"error","message":"busy"}\n')],
    "no content": [steps.status(204)],
}


@pytest.mark.parametrize("script", JUDGED.values(), ids=JUDGED.keys())
def test_response_is_checked_like_that_of_a_server(script: Script) -> None:
    with (
        ScriptedServer(script, framing="close") as server,
        Mistral(server_url=server.url) as client,
    ):
        expected = ending_of(ask(client))
        host = server.url.removeprefix("http://")
    assert ending_of(ask(scripted_client(script))) == expected.replace(host, "localhost")


def ending_of(answer: EventStream) -> str:
    try:
        return answer.text().join().run()
    except MistralError as error:
        return repr(error)


def test_scripted_exchanges_are_recorded(tmp_path: Any) -> None:
    path = tmp_path / "recording.jsonl"
    with record(path):
        client = scripted_client(["Hello", finish()], [steps.status(429, body="slow")])
        ask(client).run()
        with pytest.raises(RateLimitError):
            ask(client).run()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["end"] for line in lines if "end" in line] == ["eof", "eof"]
    assert lines[-2]["text"] == "slow"


def test_wrong_script_is_refused() -> None:
    with pytest.raises(TypeError, match="a script is"):
        scripted_client("Hello")  # type: ignore[arg-type]


def test_scheduler_without_a_thread_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    scheduler, errors = VirtualTimeScheduler(), list[Exception]()
    monkeypatch.setattr(scheduler, "schedule_relative", refuse)
    ask(scripted_client(HELLO, scheduler=scheduler)).subscribe(on_error=errors.append)
    assert [str(error) for error in errors] == ["can't start new thread"]


@pytest.mark.parametrize("kind", [CurrentThreadScheduler, TrampolineScheduler, ImmediateScheduler])
def test_scheduler_that_blocks_is_refused(kind: type[abc.SchedulerBase]) -> None:
    with pytest.raises(ValueError, match="blocks the thread"):
        scripted_client(scheduler=kind())


def test_wrong_scheduler_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match="scheduler must be"):
        Mistral(server_url="http://localhost", scheduler=wrong)


# --- a scheduler with sockets ---


@pytest.fixture
def client_of(scheduler: abc.SchedulerBase) -> Callable[..., Mistral]:
    return lambda server, **options: Mistral(server_url=server.url, scheduler=scheduler, **options)


def test_pause_before_a_request_is_virtual(
    scheduler: VirtualTimeScheduler, client_of: Callable[..., Mistral]
) -> None:
    refused = [steps.status(503)]
    with ScriptedServer(refused, ["Hello", finish()]) as server:
        retry = Retry(initial=HOUR, maximum=HOUR, jitter=0, max_elapsed=None)
        timeouts = Timeouts(first=1e9, gap=1e9)
        with client_of(server, retry=retry, timeouts=timeouts) as client:
            seen = Seen(ask(client), scheduler)
            assert eventually(lambda: scheduler.advance_by(HOUR) or bool(seen.ended))
        assert len(server.requests) == 2
    assert [text for _, text in seen.items] == ["Hello"]


@pytest.mark.parametrize("reader", ["thread", "shared"])
@pytest.mark.parametrize("script", [[hang()], ["Hel", hang()]])
def test_silence_of_a_server_is_virtual(
    scheduler: VirtualTimeScheduler, client_of: Callable[..., Mistral], reader: Any, script: Any
) -> None:
    with ScriptedServer(script) as server, client_of(server, reader=reader) as client:
        seen = Seen(ask(client), scheduler)
        assert eventually(lambda: bool(server.requests))
        assert eventually(lambda: len(seen.items) == len(script) - 1)
        # The reader may begin to wait at any moment of the scheduler.
        assert eventually(lambda: scheduler.advance_by(60) or bool(seen.ended))
        assert server.requests[0].wait_closed()
    kind = StreamTimeoutError if len(script) > 1 else RequestTimeoutError
    assert isinstance(seen.error, kind)
    assert len(seen.ended) == 1


# --- programs ---


def test_program_ends_after_a_repeated_request() -> None:
    program = """if True:
        from rxmistral import Retry, UserMessage
        from rxmistral.testing import drop, finish, scripted_client, wait

        client = scripted_client(
            [drop()], ["Hel", wait(0.02), "lo", finish()], retry=Retry(initial=0.05)
        )
        client.chat.stream(model="m", messages=[UserMessage(content="Hi")]).text().subscribe(print)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=BOUND, check=True
    )
    assert done.stdout.split() == ["Hel", "lo"]


def test_scripted_client_leaves_no_timer_when_its_reader_leaves() -> None:
    client = scripted_client(["Hel", hang()], timeouts=Timeouts(gap=HOUR))
    subscription = SerialDisposable()
    answer = client.chat.stream(model="m", messages=MESSAGES)
    subscription.disposable = answer.subscribe(lambda _: subscription.dispose())
    assert eventually(lambda: bool(client.requests) and client.requests[0].closed is not None)

    def timers() -> list[threading.Timer]:
        return [each for each in threading.enumerate() if isinstance(each, threading.Timer)]

    assert eventually(lambda: not [each for each in timers() if each.interval > 60])
