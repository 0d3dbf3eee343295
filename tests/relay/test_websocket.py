"""WebSocket messages, over real connections, from real servers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import pytest
import reactivex
from faces import BOUND, eventually, run
from reactivex import Subject
from reactivex import operators as ops
from reactivex.scheduler import NewThreadScheduler
from runs import Recorded, completion
from servers import by_uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.server import serve as websockets_serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from rxmistral import DroppedStreamError, Mistral, StoppedError, text
from rxmistral.relay import relay_websocket
from rxmistral.testing import ScriptedServer, steps

Relay = Callable[[Any, Any], Any]
"""What a server does with a connection: relays to its `send`, listens to its `receive`."""


# --- servers ---------------------------------------------------------------------


class Served:
    """A server, and what became of its connections."""

    def __init__(self) -> None:
        self.port = 0
        self.raised: list[BaseException | None] = []
        self._done = threading.Semaphore(0)

    async def handle(self, relay: Relay, send: Any, receive: Any) -> None:
        try:
            await relay(send, receive)
        except BaseException as error:
            self.raised.append(error)
            raise
        else:
            self.raised.append(None)
        finally:
            self._done.release()

    def wait(self) -> BaseException | None:
        """What the relay raised when it was over, or None."""
        assert self._done.acquire(timeout=BOUND)
        return self.raised[-1]


@contextmanager
def by_starlette(relay: Relay) -> Iterator[Served]:
    served = Served()

    async def answer(websocket: WebSocket) -> None:
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            await served.handle(relay, websocket.send_text, websocket.receive_text)
            await websocket.close()

    with by_uvicorn(Starlette(routes=[WebSocketRoute("/", answer)])) as served.port:
        yield served


@contextmanager
def by_websockets(relay: Relay) -> Iterator[Served]:
    served = Served()
    listening, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def answer(connection: Any) -> None:
        with suppress(ConnectionClosed):
            await served.handle(relay, connection.send, connection.recv)

    async def main() -> None:
        async with websockets_serve(answer, "127.0.0.1", 0) as server:
            served.port = next(iter(server.sockets)).getsockname()[1]
            listening.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        assert listening.wait(BOUND)
        yield served
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


Serve = Callable[[Relay], Any]


@pytest.fixture(params=[by_starlette, by_websockets], ids=["starlette", "websockets"])
def serve(request: pytest.FixtureRequest) -> Serve:
    return request.param


def client_of(served: Served) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{served.port}/", open_timeout=BOUND)


def received(client: ClientConnection) -> dict[str, Any]:
    message = client.recv(timeout=BOUND)
    assert isinstance(message, str)  # a text frame
    return msgspec.json.decode(message)


def all_received(client: ClientConnection) -> list[dict[str, Any]]:
    messages = []
    while not messages or messages[-1]["type"] != "end":
        messages.append(received(client))
    return messages


CANCEL = '{"type":"cancel"}'


@pytest.fixture
def hanging() -> Iterator[tuple[ScriptedServer, Any]]:
    """A service that says two words, and then nothing more."""
    with (
        ScriptedServer([steps.role(), "Hel", "lo", steps.hang()]) as service,
        Mistral(server_url=service.url) as client,
    ):
        messages = [{"role": "user", "content": "Hi"}]
        yield service, client.chat.stream(model="m", messages=messages).pipe(text())


# --- what is sent ----------------------------------------------------------------


def test_items_arrive_as_text_and_then_the_end(serve: Serve) -> None:
    source = reactivex.of("Hel", "lo\u2028\n", completion("Hi"))
    with serve(lambda *ways: relay_websocket(source, *ways)) as served:
        with client_of(served) as client:
            messages = all_received(client)
        assert served.wait() is None
    assert messages == [
        {"type": "item", "id": 1, "item": "Hel"},
        {"type": "item", "id": 2, "item": "lo\u2028\n"},
        {"type": "item", "id": 3, "item": msgspec.to_builtins(completion("Hi").data)},
        {"type": "end", "id": 3, "status": "completed"},
    ]


def test_an_error_of_the_model_is_told_and_not_raised(serve: Serve) -> None:
    source = reactivex.throw(DroppedStreamError("reset"))
    with serve(lambda *ways: relay_websocket(source, *ways)) as served:
        with client_of(served) as client:
            assert all_received(client) == [
                {
                    "type": "end",
                    "id": 0,
                    "status": "dropped",
                    "error": "DroppedStreamError",
                    "message": "the connection broke in the middle of the answer: reset",
                }
            ]
        assert served.wait() is None


def test_a_client_that_comes_back_goes_on_after_the_last_item_it_has(serve: Serve) -> None:
    source = Recorded(reactivex.of("a", "b", "c"))
    with (
        serve(lambda *ways: relay_websocket(source, *ways, last_event_id="2")) as served,
        client_of(served) as client,
    ):
        assert [(each["type"], each["id"]) for each in all_received(client)] == [
            ("item", 3),
            ("end", 3),
        ]


# --- what the client asks for ----------------------------------------------------


def test_a_client_that_cancels_stops_the_generation_and_is_told(
    serve: Serve, hanging: tuple[ScriptedServer, Any]
) -> None:
    service, answer = hanging
    with serve(lambda *ways: relay_websocket(answer, *ways)) as served, client_of(served) as client:
        assert [received(client)["item"] for _ in range(2)] == ["Hel", "lo"]
        for noise in ('{"type":"hello"}', "[1", "null", '"cancel"'):
            client.send(noise)
        client.send(CANCEL)
        assert received(client) == {"type": "end", "id": 2, "status": "cancelled"}
        assert service.requests[0].wait_closed(BOUND)
        assert served.wait() is None


def test_cancelling_leaves_what_is_shared_or_stops_it_for_all_as_asked(serve: Serve) -> None:
    source: Subject[str] = Subject()
    shared = Recorded(source)

    def stop() -> None:
        shared.end(StoppedError())

    ways_to_stop = iter([None, stop, None])

    def relay(send: Any, receive: Any) -> Any:
        return relay_websocket(shared, send, receive, stop=next(ways_to_stop))

    source.on_next("Hel")
    with (
        serve(relay) as served,
        client_of(served) as leaves,
        client_of(served) as stops,
        client_of(served) as watches,
    ):
        for client in (leaves, stops, watches):
            assert received(client)["item"] == "Hel"
        leaves.send(CANCEL)
        assert received(leaves) == {"type": "end", "id": 1, "status": "cancelled"}
        source.on_next("lo")
        for client in (stops, watches):
            assert received(client)["item"] == "lo"
        stops.send(CANCEL)
        for client in (stops, watches):
            end = received(client)
            assert (end["status"], end["error"]) == ("cancelled", "StoppedError")
    assert not source.observers


def test_a_client_that_goes_away_stops_the_generation(
    serve: Serve, hanging: tuple[ScriptedServer, Any]
) -> None:
    service, answer = hanging
    with serve(lambda *ways: relay_websocket(answer, *ways)) as served:
        with client_of(served) as client:
            received(client)
        assert service.requests[0].wait_closed(BOUND)
        assert isinstance(served.wait(), (WebSocketDisconnect, ConnectionClosed))


def test_a_client_whose_connection_breaks_stops_the_generation(
    serve: Serve, hanging: tuple[ScriptedServer, Any]
) -> None:
    service, answer = hanging
    with serve(lambda *ways: relay_websocket(answer, *ways)) as served:
        with client_of(served) as client:
            received(client)
            client.socket.shutdown(socket.SHUT_RDWR)  # without the word of the protocol
            assert service.requests[0].wait_closed(BOUND)
        assert isinstance(served.wait(), (WebSocketDisconnect, ConnectionClosed))


# --- without a socket ------------------------------------------------------------


class Client:
    """In place of a connection: what it was sent, and when it speaks or breaks."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.says: asyncio.Queue[str | Exception] = asyncio.Queue()

    async def send(self, message: str) -> None:
        self.got.append(msgspec.json.decode(message))

    async def receive(self) -> str:
        said = await self.says.get()
        if isinstance(said, Exception):
            raise said
        return said


def test_a_task_that_is_cancelled_leaves_the_source_and_no_task() -> None:
    source: Subject[str] = Subject()

    async def main() -> None:
        client = Client()
        relaying = asyncio.create_task(relay_websocket(source, client.send, client.receive))
        assert await asyncio.to_thread(eventually, lambda: bool(source.observers))
        relaying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relaying
        assert not source.observers

    run(main())


@pytest.mark.parametrize("whose", ["send", "receive"])
def test_what_the_connection_raises_is_raised_and_the_source_is_left(whose: str) -> None:
    source: Subject[str] = Subject()

    async def broken(*_: str) -> str:
        raise ConnectionResetError(whose)

    async def main() -> None:
        client = Client()
        ways: Any = {"send": client.send, "receive": client.receive, whose: broken}
        source_now = source.pipe(ops.start_with("Hel"))
        with pytest.raises(ConnectionResetError, match=whose):
            await relay_websocket(source_now, **ways)
        assert not source.observers

    run(main())


def test_a_fault_of_the_program_is_raised_when_the_client_was_told() -> None:
    async def main() -> None:
        client = Client()
        source = reactivex.of(1, 0).pipe(ops.map(lambda number: 1 // number))
        with pytest.raises(ZeroDivisionError):
            await relay_websocket(source, client.send, client.receive)
        assert [each["type"] for each in client.got] == ["item", "end"]
        assert client.got[-1]["message"] == "the program that answers has a fault"

    run(main())


def test_what_stop_raises_is_raised() -> None:
    def stop() -> None:
        raise LookupError("no such run")

    async def main() -> None:
        client = Client()
        client.says.put_nowait(CANCEL)
        source: Subject[str] = Subject()
        with pytest.raises(LookupError):
            await relay_websocket(source, client.send, client.receive, stop=stop)
        assert not source.observers

    run(main())


def test_a_slow_client_slows_the_source() -> None:
    emitted = 0
    leads: list[int] = []

    def count(_: object) -> None:
        nonlocal emitted
        emitted += 1

    async def main() -> None:
        client = Client()

        async def send(message: str) -> None:
            if not client.got:
                assert await asyncio.to_thread(eventually, lambda: emitted >= 512)
            leads.append(emitted - len(client.got))
            await client.send(message)

        source = reactivex.range(5000).pipe(
            ops.do_action(count), ops.subscribe_on(NewThreadScheduler())
        )
        await relay_websocket(source, send, client.receive)
        assert len(client.got) == 5001

    run(main())
    assert 500 < max(leads) < 600  # what a loop over a Stream has room for


def test_bad_arguments_are_refused_before_anything_is_sent() -> None:
    async def main() -> None:
        client = Client()
        source = reactivex.of("x")
        ways = (client.send, client.receive)
        with pytest.raises(TypeError, match="stop"):
            await relay_websocket(source, *ways, stop="stop")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="last_event_id"):
            await relay_websocket(source, *ways, last_event_id="1")
        assert client.got == []

    run(main())
