"""EventStream: opened before it is read, and closed from any thread or task."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import reactivex
from faces import BOUND, Face, eventually, run
from reactivex import operators as ops

from rxmistral import (
    DroppedStreamError,
    Mistral,
    ReportedError,
    RequestError,
    Resume,
    Retry,
    StatusError,
    StoppedError,
    Stream,
    UserMessage,
    text,
)
from rxmistral.chat.event_stream import EventStream, EventStreamAsync
from rxmistral.testing import Script, ScriptedServer, steps
from rxmistral.wire.reader import READERS

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)

ANSWER: Script = [steps.role(), "Hel", "lo", steps.finish(), steps.done()]
SILENT: Script = [steps.headers(), steps.hang()]
BEGUN: Script = [steps.role(), "Hel", steps.hang()]


@pytest.fixture
def client() -> Iterator[Callable[[ScriptedServer], Mistral]]:
    """A function that returns clients of a server; closes them."""
    made: list[Mistral] = []

    def make(server: ScriptedServer) -> Mistral:
        made.append(Mistral(server_url=server.url))
        return made[-1]

    yield make
    for each in made:
        with each:
            pass


Client = Callable[[ScriptedServer], Mistral]


def ask(client: Mistral) -> EventStream:
    return client.chat.stream(model="small", messages=[UserMessage(content="Hi")])


def ask_async(client: Mistral) -> EventStreamAsync:
    return client.chat.stream_async(model="small", messages=[UserMessage(content="Hi")])


def content_of(chunk: Any) -> str:
    choices = chunk.data.choices
    return choices[0].delta.content or "" if choices else ""


# --- the programs of the official SDK's documentation ---


def test_program_of_the_sdk_documentation_runs(client: Client) -> None:
    received = []
    with ScriptedServer(ANSWER) as server:
        with client(server).chat.stream(
            model="mistral-large-latest",
            messages=[UserMessage(content="Write a short poem about coding.")],
        ) as stream:
            for chunk in stream:
                content = chunk.data.choices[0].delta.content
                if content:
                    received.append(content)
        assert len(server.requests) == 1
    assert received == ["Hel", "lo"]


def test_async_program_of_the_sdk_documentation_runs(client: Client) -> None:
    async def main(server: ScriptedServer) -> list[str]:
        received = []
        async with client(server).chat.stream_async(
            model="mistral-large-latest",
            messages=[UserMessage(content="Explain machine learning.")],
        ) as stream:
            async for chunk in stream:
                content = chunk.data.choices[0].delta.content
                if content:
                    received.append(content)
        return received

    with ScriptedServer(ANSWER) as server:
        assert run(main(server)) == ["Hel", "lo"]
        assert len(server.requests) == 1


def test_async_with_await_sends_one_request(client: Client) -> None:
    async def main(server: ScriptedServer) -> str:
        async with await ask_async(client(server)) as stream:
            assert stream.response.status_code == 200
            return "".join([content_of(chunk) async for chunk in stream])

    with ScriptedServer(ANSWER) as server:
        assert run(main(server)) == "Hello"
        assert len(server.requests) == 1


def test_async_for_after_await_sends_one_request(client: Client) -> None:
    async def main(server: ScriptedServer) -> str:
        return "".join([content_of(chunk) async for chunk in await ask_async(client(server))])

    with ScriptedServer(ANSWER) as server:
        assert run(main(server)) == "Hello"
        assert len(server.requests) == 1


def test_async_for_needs_no_await(client: Client) -> None:
    async def main(server: ScriptedServer) -> str:
        return "".join([content_of(chunk) async for chunk in ask_async(client(server))])

    with ScriptedServer(ANSWER) as server:
        assert run(main(server)) == "Hello"
        assert len(server.requests) == 1


def test_pipe_in_async_with_reads_the_opened_answer(client: Client) -> None:
    async def main(server: ScriptedServer) -> str:
        async with ask_async(client(server)) as stream:
            return "".join([piece async for piece in stream.pipe(text())])

    with ScriptedServer(ANSWER) as server:
        assert run(main(server)) == "Hello"
        assert len(server.requests) == 1


def test_pipe_in_with_reads_the_opened_answer(client: Client) -> None:
    with ScriptedServer(ANSWER) as server:
        with ask(client(server)) as stream:
            assert stream.response.status_code == 200
            assert "".join(stream.pipe(text())) == "Hello"
        assert len(server.requests) == 1


# --- the response ---


def test_nothing_is_sent_before_the_stream_is_read(client: Client) -> None:
    with ScriptedServer() as server:
        with ask(client(server)):
            ask_async(client(server))
        assert server.connections == 0


def test_response_is_known_before_the_first_event(client: Client) -> None:
    with ScriptedServer([steps.header("mistral-correlation-id", "c7"), *SILENT]) as server:
        with ask(client(server)) as stream:
            assert stream.response.headers["Mistral-Correlation-Id"] == "c7"
        assert server.requests[0].wait_closed()
        assert stream.response.status_code == 200  # also after the end
        assert len(server.requests) == 1


def test_async_response_raises_before_the_stream_is_opened(client: Client) -> None:
    async def main(server: ScriptedServer) -> None:
        stream = ask_async(client(server))
        with pytest.raises(RuntimeError, match="not opened"):
            stream.response  # noqa: B018  # it raises
        assert (await stream).response.status_code == 200
        await stream.close()

    with ScriptedServer(SILENT) as server:
        run(main(server))
        assert server.requests[0].wait_closed()


def test_response_sends_no_request_while_the_stream_is_read(
    client: Client,
) -> None:
    with ScriptedServer([steps.wait(0.05), *ANSWER]) as server:
        stream = ask(client(server))
        ended = threading.Event()
        stream.subscribe(on_completed=ended.set)
        assert stream.response.status_code == 200
        assert ended.wait(BOUND)
        assert len(server.requests) == 1


def test_response_belongs_to_the_latest_request(client: Client) -> None:
    def number(request: Any) -> Script:
        return [steps.header("X-Number", str(request.number)), *ANSWER]

    with ScriptedServer(number) as server:
        stream = ask(client(server))
        for expected in "01":
            list(stream)
            assert stream.response.headers["X-Number"] == expected


def test_opening_raises_the_refusal(client: Client) -> None:
    async def by_await(server: ScriptedServer) -> None:
        await ask_async(client(server))

    async def by_with(server: ScriptedServer) -> None:
        async with ask_async(client(server)):
            pytest.fail("it was opened")

    refusal = [steps.status(401, body={"detail": "Unauthorized"})]
    with ScriptedServer(lambda _: refusal) as server:
        with pytest.raises(StatusError, match="Unauthorized"):
            ask(client(server)).response  # noqa: B018  # it raises
        for opened in (by_await, by_with):
            with pytest.raises(StatusError, match="Unauthorized"):
                run(opened(server))
        assert len(server.requests) == 3


@pytest.mark.parametrize("ask_of", [ask, ask_async])
def test_response_raises_after_a_reader_received_the_refusal(
    client: Client, ask_of: Callable[[Mistral], EventStream]
) -> None:
    with ScriptedServer([steps.status(429, body={"message": "slow down"})]) as server:
        stream = ask_of(client(server))
        with stream:
            with pytest.raises(StatusError, match="slow down"):
                list(stream)
            with pytest.raises(StatusError, match="slow down"):
                stream.response  # noqa: B018  # it raises
        with pytest.raises(StatusError, match="slow down"):
            stream.response  # noqa: B018  # it raises
        assert len(server.requests) == 1


def test_opening_raises_when_no_server_listens(client: Client) -> None:
    with ScriptedServer() as server:
        unreachable = client(server)
    with pytest.raises(RequestError):
        ask(unreachable).response  # noqa: B018  # it raises

    async def main() -> None:
        await ask_async(unreachable)

    with pytest.raises(RequestError):
        run(main())


def test_error_after_the_headers_is_raised_by_the_loop(client: Client) -> None:
    with ScriptedServer([steps.headers(), steps.error("overloaded")]) as server:
        stream = ask(client(server))
        assert stream.response.status_code == 200
        with pytest.raises(Exception, match="overloaded"):
            list(stream)


def test_end_without_items_reaches_a_late_subscriber(client: Client) -> None:
    with ScriptedServer([steps.done()]) as server:
        stream = ask(client(server))
        assert stream.response.status_code == 200
        assert server.requests[0].wait_answered()
        assert list(stream) == []


# --- opened, and not read ---


def test_unread_answer_waits_at_the_server(client: Client) -> None:
    many = [steps.text(*["x" * 10_000] * 5000)]
    with ScriptedServer([*many, steps.finish(), steps.done()]) as server:
        stream = ask(client(server))
        assert stream.response.status_code == 200
        assert sum(len(piece) for piece in stream.pipe(text())) == 50_000_000


def test_dropping_an_opened_stream_closes_its_connection(client: Client) -> None:
    gc.disable()
    try:
        with ScriptedServer(lambda _: BEGUN) as server:
            stream = ask(client(server))
            assert stream.response.status_code == 200
            del stream
            assert server.requests[0].wait_closed()
            stream = ask(client(server))
            next(iter(stream))
            assert server.wait_for_requests(2)[1].wait_closed()
            assert stream
    finally:
        gc.enable()


def test_dropping_an_opened_async_stream_closes_its_connection(client: Client) -> None:
    async def main(server: ScriptedServer) -> None:
        await ask_async(client(server))
        assert await asyncio.to_thread(server.requests[0].wait_closed)

    with ScriptedServer(BEGUN) as server:
        run(main(server))


def test_leaving_with_closes_an_unread_answer(client: Client) -> None:
    async def main(server: ScriptedServer) -> None:
        async with ask_async(client(server)):
            pass

    with ScriptedServer(lambda _: BEGUN) as server:
        with ask(client(server)) as stream:
            assert stream.response.status_code == 200
        run(main(server))
        assert all(request.wait_closed() for request in server.requests)


def test_opened_stream_is_cold_again_after_with(client: Client) -> None:
    with ScriptedServer(SILENT, ANSWER, SILENT, ANSWER) as server:
        stream = ask(client(server))
        with stream:
            assert stream.response.status_code == 200
        assert "".join(map(content_of, stream)) == "Hello"
        stream = ask(client(server))
        assert stream.response.status_code == 200
        stream.close()
        assert "".join(map(content_of, stream)) == "Hello"


def test_cancelling_the_opening_closes_the_connection(client: Client) -> None:
    async def main(server: ScriptedServer, enter: bool) -> None:
        stream = ask_async(client(server))
        opening = stream.__aenter__() if enter else stream._opened()
        task = asyncio.ensure_future(opening)
        await asyncio.to_thread(server.wait_for_requests, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.requests[0].wait_closed)

    for enter in (True, False):
        with ScriptedServer([steps.hang()]) as server:
            run(main(server, enter))


# --- close ---


def piped() -> dict[str, Callable[[EventStream], Any]]:
    return {
        "itself": lambda stream: stream,
        "a pipe": lambda stream: stream.pipe(text()),
        "a longer pipe": lambda stream: stream.pipe(
            text(), ops.scan(lambda a, b: a + b), ops.map(len)
        ),
    }


@pytest.mark.parametrize("pipe", piped().values(), ids=piped().keys())
@pytest.mark.parametrize("opened", [False, True])
def test_close_from_another_thread_ends_a_loop(
    client: Client, pipe: Callable[[EventStream], Any], opened: bool
) -> None:
    with ScriptedServer(BEGUN) as server:
        stream = ask(client(server))
        if opened:
            assert stream.response.status_code == 200
        began, ended = threading.Event(), threading.Event()

        def loop() -> None:
            for _ in pipe(stream):
                began.set()
            ended.set()

        threading.Thread(target=loop, daemon=True).start()
        assert began.wait(BOUND)
        stream.close()
        assert server.requests[0].wait_closed()
        assert ended.wait(BOUND)


@pytest.mark.parametrize("pipe", piped().values(), ids=piped().keys())
def test_close_from_another_task_ends_a_loop(
    client: Client, pipe: Callable[[EventStream], Any]
) -> None:
    async def main(server: ScriptedServer) -> None:
        stream = await ask_async(client(server))
        began = asyncio.Event()

        async def loop() -> None:
            async for _ in pipe(stream):
                began.set()

        task = asyncio.create_task(loop())
        await asyncio.wait_for(began.wait(), BOUND)
        await stream.close()
        await asyncio.wait_for(task, BOUND)
        assert await asyncio.to_thread(server.requests[0].wait_closed)

    with ScriptedServer(BEGUN) as server:
        run(main(server))


def test_close_raises_in_the_thread_that_awaits_headers(client: Client) -> None:
    with ScriptedServer([steps.hang()]) as server:
        stream = ask(client(server))
        raised: list[BaseException] = []

        def read_response() -> None:
            try:
                stream.response  # noqa: B018  # it raises
            except RuntimeError as error:
                raised.append(error)

        thread = threading.Thread(target=read_response)
        thread.start()
        server.wait_for_requests(1)
        stream.close()
        thread.join(BOUND)
        assert "closed before the headers" in str(raised[0])
        assert server.requests[0].wait_closed()


def test_close_stops_all_subscriptions_also_after_with(client: Client) -> None:
    with ScriptedServer(lambda _: BEGUN) as server:
        stream = ask(client(server))
        with stream:
            pass
        first, second = threading.Event(), threading.Event()
        stream.subscribe(lambda _: first.set())
        stream.pipe(text()).subscribe(lambda _: second.set())
        assert first.wait(BOUND)
        assert second.wait(BOUND)
        stream.close()
        assert all(request.wait_closed() for request in server.requests)


def test_close_has_no_effect_before_and_after_the_answer(client: Client) -> None:
    with ScriptedServer(ANSWER) as server:
        stream = ask(client(server))
        stream.close()
        assert "".join(map(content_of, stream)) == "Hello"
        stream.close()
        stream.close()

    async def main() -> None:
        await ask_async(client(server)).close()

    run(main())


def test_close_in_with_ends_its_answer(client: Client) -> None:
    with ScriptedServer(BEGUN) as server:
        with ask(client(server)) as stream:
            next(iter(stream))
            stream.close()
            assert server.requests[0].wait_closed()
            assert list(stream) == []
        assert len(server.requests) == 1


def test_subscription_to_an_opened_stream_can_be_disposed(client: Client) -> None:
    with ScriptedServer(BEGUN) as server:
        stream = ask(client(server))
        assert stream.response.status_code == 200
        began = threading.Event()
        subscription = stream.subscribe(lambda _: began.set())
        assert began.wait(BOUND)
        subscription.dispose()
        assert server.requests[0].wait_closed()
        assert eventually(lambda: not [t for t in threading.enumerate() if "attached" in t.name])


# --- the connection after an answer ---

ENDINGS: dict[str, Script] = {
    "completed": ANSWER,
    "no [DONE]": ANSWER[:-1],
    "reported": ["Hel", steps.error("overloaded"), steps.done()],
    "reported at once": [steps.error("overloaded")],
    "reported by finishing": ["Hel", steps.finish("error"), steps.done()],
    "truncated": ["Hel"],
    "refused": [steps.status(429, body={"message": "slow down"})],
    "no event stream": [steps.status(200, body="<html>")],
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_next_answer_uses_the_same_connection(client: Client, read: Face, ending: str) -> None:
    with ScriptedServer(lambda _: ENDINGS[ending]) as server:
        asking = client(server)
        for _ in range(3):
            read(ask(asking))
        assert (len(server.requests), server.connections) == (3, 1)


def test_reported_error_does_not_wait_for_the_end_of_the_body(client: Client, read: Face) -> None:
    script = ["Hel", steps.error("overloaded"), steps.hang()]
    with ScriptedServer(script) as server:
        assert isinstance(read(ask(client(server)))[-1], ReportedError)
        assert server.wait_idle(BOUND)


# --- pipes of an answer ---

PIPED: dict[str, Callable[[Any], Any]] = {
    "pipe": lambda answer: answer.pipe(text()),
    "pipe of several": lambda answer: answer.pipe(
        text(), ops.map(str.upper), ops.scan(str.__add__)
    ),
    "fluent": lambda answer: answer.map(lambda event: event.data).filter(bool),
    "shared": lambda answer: answer.pipe(text()).shared(),
    "published": lambda answer: answer.pipe(text(), ops.publish()).auto_connect(),
    "added": lambda answer: answer.pipe(text()) + reactivex.of("more"),
}


@pytest.mark.parametrize("name", PIPED)
def test_outcome_of_a_pipe_is_that_of_the_answer(name: str, client: Client) -> None:
    with ScriptedServer(ANSWER) as server:
        answer = ask(client(server))
        piped = PIPED[name](answer)
        assert piped.outcome is None
        assert list(piped)
        assert piped.outcome is answer.outcome
        assert piped.outcome.status == "completed"


@pytest.mark.parametrize("name", PIPED)
def test_closing_a_pipe_closes_the_answer(name: str, client: Client) -> None:
    with ScriptedServer(BEGUN) as server:
        answer = ask(client(server))
        piped = PIPED[name](answer)
        began = threading.Event()
        received: list[Any] = []

        def loop() -> None:
            with suppress(StoppedError):  # a shared stream is stopped for all its viewers
                for item in piped:
                    received.append(item)
                    began.set()
            received.append("|")

        thread = threading.Thread(target=loop)
        thread.start()
        assert began.wait(BOUND)
        piped.close()
        thread.join(BOUND)
        assert received[-1] == "|"
        assert server.requests[0].wait_closed()
        assert piped.outcome.status == "cancelled"


def test_pipe_without_an_answer_has_no_outcome() -> None:
    stream = Stream.of(reactivex.of(1)).map(str)
    stream.run()
    assert stream.outcome is None
    stream.close()


# --- a response that the program closes ---


@pytest.mark.parametrize("policy", [{}, {"retry": Retry(attempts=3)}, {"resume": Resume()}])
def test_closed_response_ends_the_answer_without_a_retry(
    read: Face, policy: dict[str, Any]
) -> None:
    with (
        ScriptedServer(lambda _: ["Hel", steps.hang()]) as server,
        Mistral(server_url=server.url, **policy) as client,
    ):
        other = ask(client)
        assert other.response.ok
        stream = ask(client)
        stream.response.close()
        assert isinstance(read(stream.pipe(text()))[-1], DroppedStreamError)
        assert server.requests[1].wait_closed(BOUND)
        assert server.open_connections == 1
        assert len(server.requests) == 2
        other.close()
