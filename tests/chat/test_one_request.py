"""One request within `with`, counted at the server; outside, each subscription sends one."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from faces import BOUND, run
from reactivex import operators as ops

from rxmistral import (
    DroppedStreamError,
    EventStream,
    EventStreamAsync,
    Mistral,
    Outcome,
    RateLimitError,
    Resume,
    Retry,
    StatusError,
    Stream,
    UserMessage,
    join,
    on_outcome,
    text,
    to_response,
    until_finished,
)
from rxmistral.testing import Script, ScriptedServer, steps
from rxmistral.wire.reader import READERS

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)

WORDS = [f"w{number} " for number in range(1500)]
TEXT = "".join(WORDS)
ANSWER: Script = [steps.role(), *WORDS, steps.finish(), steps.done()]
MESSAGES = [UserMessage(content="Hi")]


class Asked:
    """A server, and calls of it."""

    def __init__(self, server: ScriptedServer, client: Mistral) -> None:
        self.server, self.client = server, client

    @property
    def requests(self) -> int:
        return len(self.server.requests)

    def stream(self) -> EventStream:
        return self.client.chat.stream(model="m", messages=MESSAGES)

    def stream_async(self) -> EventStreamAsync:
        return self.client.chat.stream_async(model="m", messages=MESSAGES)


@contextmanager
def serving(*scripts: Any, **options: Any) -> Iterator[Asked]:
    with (
        ScriptedServer(*scripts) as server,
        Mistral("key", server_url=server.url, **options) as client,
    ):
        yield Asked(server, client)


@pytest.fixture
def asked() -> Iterator[Asked]:
    with serving(lambda _: ANSWER) as it:
        yield it


def text_of(events: list[Any]) -> str:
    return "".join(event.data.choices[0].delta.content or "" for event in events)


def loop_over(stream: EventStream) -> str:
    return text_of(list(stream))


def loop_over_a_pipe(stream: EventStream) -> str:
    return "".join(stream.pipe(text()))


def run_a_pipe(stream: EventStream) -> str:
    return stream.pipe(text(), join()).run()


def response(stream: EventStream) -> str:
    return stream.pipe(to_response()).run().text


def until_its_finish(stream: EventStream) -> str:
    return "".join(stream.pipe(until_finished(), text()))


def subscribe(stream: EventStream) -> str:
    received: list[str] = []
    ended = threading.Event()
    stream.pipe(text()).subscribe(received.append, print, ended.set)
    assert ended.wait(BOUND)
    return "".join(received)


def loop_on_a_thread(stream: EventStream) -> str:
    received: list[str] = []
    thread = threading.Thread(target=lambda: received.append(loop_over(stream)), daemon=True)
    thread.start()
    thread.join(BOUND)
    return received[0]


def left_and_continued(stream: EventStream) -> str:
    events = []
    for event in stream:
        events.append(event)
        if len(events) == 3:
            break
    for event in stream.pipe(text()):
        assert event == WORDS[0]
        break
    return text_of([*events, *stream])


def left_subscriptions(stream: EventStream) -> str:
    stream.subscribe().dispose()
    stream.pipe(text(), ops.take(2)).run()
    return run_a_pipe(stream)


def its_headers_first(stream: EventStream) -> str:
    assert stream.response.ok
    return loop_over_a_pipe(stream)


READ = [
    loop_over,
    loop_over_a_pipe,
    run_a_pipe,
    response,
    until_its_finish,
    subscribe,
    loop_on_a_thread,
    left_and_continued,
    left_subscriptions,
    its_headers_first,
]


@pytest.mark.parametrize("first", READ, ids=lambda read: read.__name__)
def test_block_sends_one_request(first: Callable[[EventStream], str], asked: Asked) -> None:
    with asked.stream() as stream:
        assert first(stream) == TEXT
        for read in READ[:-3]:
            assert read(stream) == TEXT, read.__name__
        assert stream.outcome is not None
        assert (stream.outcome.status, stream.outcome.requests) == ("completed", 1)
    assert asked.requests == 1


async def async_loop(stream: EventStreamAsync) -> str:
    return text_of([event async for event in stream])


async def async_loop_over_a_pipe(stream: EventStreamAsync) -> str:
    return "".join([token async for token in stream.pipe(text())])


async def await_a_pipe(stream: EventStreamAsync) -> str:
    return await stream.pipe(text(), join())


async def await_itself_first(stream: EventStreamAsync) -> str:
    assert await stream is stream
    return await async_loop(stream)


async def tasks(stream: EventStreamAsync) -> str:
    reads = (async_loop(stream), async_loop(stream), await_a_pipe(stream))
    one, *others = await asyncio.gather(*reads)
    assert others == [one, one]
    return one


async def async_left_and_continued(stream: EventStreamAsync) -> str:
    events = []
    async for event in stream:
        events.append(event)
        if len(events) == 3:
            break
    assert await await_a_pipe(stream) == TEXT
    return text_of(events) + await async_loop(stream)


async def cancelled_task(stream: EventStreamAsync) -> str:
    task = asyncio.create_task(async_loop(stream))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return await await_a_pipe(stream)


ASYNC_READ = [
    async_loop,
    async_loop_over_a_pipe,
    await_a_pipe,
    await_itself_first,
    tasks,
    async_left_and_continued,
    cancelled_task,
]


@pytest.mark.parametrize("opening", ["async with", "async with await"])
@pytest.mark.parametrize("first", ASYNC_READ, ids=lambda read: read.__name__)
def test_async_block_sends_one_request(first: Any, opening: str, asked: Asked) -> None:
    async def main() -> None:
        stream = asked.stream_async()
        async with stream if opening == "async with" else await stream as opened:
            assert await first(opened) == TEXT
            for read in ASYNC_READ[:-2]:
                assert await read(opened) == TEXT, read
            assert opened.outcome is not None
            assert opened.outcome.status == "completed"

    run(main())
    assert asked.requests == 1


def test_two_blocks_are_two_requests(asked: Asked) -> None:
    stream = asked.stream()
    for number in (1, 2):
        with stream:
            assert stream.outcome is None
            assert stream.response.ok
            assert run_a_pipe(stream) == loop_over(stream) == TEXT
        assert asked.requests == number


def test_block_on_a_pipe_sends_one_request(asked: Asked) -> None:
    with asked.stream().pipe(text()) as tokens:
        assert next(iter(tokens)) == WORDS[0]
        assert tokens.pipe(join()).run() == TEXT
        assert [*tokens] == WORDS[1:]
        assert tokens.outcome is not None
    assert asked.requests == 1


def test_subscriptions_outside_a_block_send_requests(asked: Asked) -> None:
    stream = asked.stream()
    assert loop_over(stream) == run_a_pipe(stream) == TEXT
    with stream:
        assert loop_over(stream) == TEXT
    assert loop_over(stream) == TEXT
    assert asked.requests == 4


def test_loop_of_the_block_goes_on_across_tasks(asked: Asked) -> None:
    async def main() -> None:
        async with asked.stream_async() as stream:
            pipe: AsyncIterator[str] = aiter(stream.pipe(text()))
            assert await asyncio.create_task(_next(pipe)) == WORDS[0]
            assert await anext(pipe) == WORDS[1]

    run(main())
    assert asked.requests == 1


async def _next(iterator: AsyncIterator[str]) -> str:
    return await anext(iterator)


def test_every_reader_reports_the_one_request(asked: Asked) -> None:
    outcomes: list[Outcome] = []
    with asked.stream() as stream:
        for _ in range(3):
            stream.pipe(on_outcome(outcomes.append)).run()
    assert [(each.text, each.requests) for each in outcomes] == [(TEXT, 1)] * 3


# --- endings ---


def test_end_of_the_block_closes_the_connection() -> None:
    with serving([steps.role(), "Hel", steps.hang()]) as asked:
        with asked.stream() as stream:
            assert next(iter(stream.pipe(text()))) == "Hel"
            assert stream.pipe(text(), ops.take(1)).run() == "Hel"
            assert stream.outcome is None
        assert asked.server.requests[0].wait_closed()
        assert stream.outcome is not None
        assert (stream.outcome.status, stream.outcome.text) == ("cancelled", "Hel")


def test_error_reaches_every_reader_of_the_block() -> None:
    with serving(["Hel", steps.drop()], ANSWER) as asked, asked.stream() as stream:
        for _ in range(3):
            received: list[str] = []
            with pytest.raises(DroppedStreamError) as raised:
                stream.pipe(text()).do_action(received.append).run()
            assert received == ["Hel"]
            assert raised.value.partial is not None
        assert asked.requests == 1


def test_refusal_reaches_every_reader_of_the_block() -> None:
    with serving([steps.status(429)], ANSWER) as asked, asked.stream() as stream:
        with pytest.raises(StatusError):
            stream.response  # noqa: B018  # it raises
        for _ in range(2):
            with pytest.raises(RateLimitError):
                stream.run()
        assert asked.requests == 1


@pytest.mark.parametrize("policy", ["retry", "resume"])
def test_policies_work_within_a_block(policy: str) -> None:
    first: Script = [steps.status(503)] if policy == "retry" else ["w0 ", steps.drop()]
    options = {"retry": Retry(initial=0.0)} if policy == "retry" else {"resume": Resume()}
    second = ANSWER if policy == "retry" else ["w0 ", *WORDS[1:], steps.finish(), steps.done()]
    with serving(first, second, **options) as asked, asked.stream() as stream:
        for read in (run_a_pipe, loop_over):
            assert read(stream) == TEXT
        assert asked.requests == 2


def test_close_in_a_block_ends_its_readers() -> None:
    with serving([steps.role(), "Hel", steps.hang()], ANSWER) as asked:
        ended = threading.Event()
        with asked.stream() as stream:
            tokens = stream.pipe(text())
            assert next(iter(tokens)) == "Hel"
            began = threading.Event()

            def loop() -> None:
                for _ in tokens:
                    began.set()
                ended.set()

            threading.Thread(target=loop, daemon=True).start()
            assert began.wait(BOUND)
            tokens.close()
            assert ended.wait(BOUND)
            assert asked.server.requests[0].wait_closed()
        assert asked.requests == 1


def test_close_of_the_answer_ends_a_block_on_its_pipe() -> None:
    with serving([steps.role(), "Hel", steps.hang()]) as asked:
        answer = asked.stream()
        begun = [threading.Event(), threading.Event()]
        ended = [threading.Event(), threading.Event()]

        def loop(tokens: Stream[str], begun: threading.Event, ended: threading.Event) -> None:
            for _ in tokens.pipe(ops.map(str)):
                begun.set()
            ended.set()

        with answer.pipe(text()) as tokens:
            assert next(iter(tokens)) == "Hel"
            for events in zip(begun, ended, strict=True):
                threading.Thread(target=loop, args=(tokens, *events), daemon=True).start()
            assert all(each.wait(BOUND) for each in begun)
            answer.close()
            assert all(each.wait(BOUND) for each in ended)


def test_shared_run_of_a_block_never_blocks_its_event_loop() -> None:
    async def read(stream: EventStream) -> None:
        async with stream:
            async for _ in stream.pipe(text()):
                break
            for shared in stream.pipe(text()).shared(), stream.pipe(text()).shared().start():
                with pytest.raises(RuntimeError, match="use async for"):
                    shared.run()
                assert await shared.pipe(ops.first()) == "Hel"

    with serving([steps.role(), "Hel", steps.hang()]) as asked:
        run(read(asked.stream()))
        assert asked.requests == 1


def test_connection_is_used_again_after_a_block(asked: Asked) -> None:
    for _ in range(3):
        with asked.stream() as stream:
            assert until_its_finish(stream) == run_a_pipe(stream) == TEXT
    assert len({request.connection for request in asked.server.requests}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_child_of_a_fork_does_not_wait_for_the_run() -> None:
    with serving([steps.role(), "Hel", steps.hang()]) as asked, asked.stream() as stream:
        assert next(iter(stream.pipe(text()))) == "Hel"
        pid = os.fork()
        if pid == 0:
            status = 1
            with suppress(BaseException):
                try:
                    run_a_pipe(stream)
                except DroppedStreamError:
                    status = 0
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
