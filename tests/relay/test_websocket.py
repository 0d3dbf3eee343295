"""WebSocket messages, over real connections and without a socket."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import pytest
import reactivex
from completion_builders import completion
from faces import BOUND, eventually, run
from reactivex import Subject
from reactivex import operators as ops
from reactivex.scheduler import NewThreadScheduler
from servers import by_uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.server import serve as websockets_serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from rxmistral import DroppedStreamError, Mistral, Stream, text
from rxmistral.relay import relay_websocket
from rxmistral.testing import ScriptedServer, steps

Relay = Callable[[Any, Any], Any]
"""Relays to one connection, given its `send` and its `receive`."""


# --- servers ---------------------------------------------------------------------


class Server:
    """A server, and how its connections ended."""

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
        """Waits for the end of a relay; returns its exception, or None."""
        assert self._done.acquire(timeout=BOUND)
        return self.raised[-1]


@contextmanager
def by_starlette(relay: Relay) -> Iterator[Server]:
    served = Server()

    async def answer(websocket: WebSocket) -> None:
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            await served.handle(relay, websocket.send_text, websocket.receive_text)
            await websocket.close()

    with by_uvicorn(Starlette(routes=[WebSocketRoute("/", answer)])) as served.port:
        yield served


@contextmanager
def by_websockets(relay: Relay) -> Iterator[Server]:
    served = Server()
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


def client_of(served: Server) -> ClientConnection:
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
    """Starts a service that sends two tokens and then hangs; yields it and the answer."""
    with (
        ScriptedServer([steps.role(), "Hel", "lo", steps.hang()]) as service,
        Mistral(server_url=service.url) as client,
    ):
        messages = [{"role": "user", "content": "Hi"}]
        yield service, client.chat.stream(model="m", messages=messages).pipe(text())


# --- items and endings -----------------------------------------------------------


def test_items_arrive_as_text_frames_and_then_the_end(serve: Serve) -> None:
    source = reactivex.of("Hel", "lo\u2028\n", completion("Hi"))
    with serve(lambda *channel: relay_websocket(source, *channel)) as served:
        with client_of(served) as client:
            messages = all_received(client)
        assert served.wait() is None
    assert messages == [
        {"type": "item", "id": 1, "item": "Hel"},
        {"type": "item", "id": 2, "item": "lo\u2028\n"},
        {"type": "item", "id": 3, "item": msgspec.to_builtins(completion("Hi").data)},
        {"type": "end", "id": 3, "status": "completed"},
    ]


def test_error_of_the_model_is_sent_and_not_raised(serve: Serve) -> None:
    source = reactivex.throw(DroppedStreamError("reset"))
    with serve(lambda *channel: relay_websocket(source, *channel)) as served:
        with client_of(served) as client:
            assert all_received(client) == [
                {
                    "type": "end",
                    "id": 0,
                    "status": "dropped",
                    "error": "DroppedStreamError",
                    "message": str(DroppedStreamError("reset")),
                }
            ]
        assert served.wait() is None


def test_reconnecting_client_resumes_after_its_last_item(serve: Serve) -> None:
    source = Stream.of(reactivex.of("a", "b", "c")).shared()
    with (
        serve(lambda *channel: relay_websocket(source, *channel, last_event_id="2")) as served,
        client_of(served) as client,
    ):
        assert [(each["type"], each["id"]) for each in all_received(client)] == [
            ("item", 3),
            ("end", 3),
        ]


# --- clients that cancel or disconnect -------------------------------------------


def test_cancel_stops_the_generation_and_is_confirmed(
    serve: Serve, hanging: tuple[ScriptedServer, Any]
) -> None:
    service, answer = hanging
    with (
        serve(lambda *channel: relay_websocket(answer, *channel)) as served,
        client_of(served) as client,
    ):
        assert [received(client)["item"] for _ in range(2)] == ["Hel", "lo"]
        for noise in ('{"type":"hello"}', '{"type"', "Hi", "null", '"cancel"'):
            client.send(noise)
        client.send(CANCEL)
        assert received(client) == {"type": "end", "id": 2, "status": "cancelled"}
        assert service.requests[0].wait_closed(BOUND)
        assert served.wait() is None


def test_cancel_leaves_a_shared_run_or_stops_it_as_configured(serve: Serve) -> None:
    source: Subject[str] = Subject()
    shared = Stream.of(source).shared()
    shared.subscribe().dispose()  # begins the run
    stops_of_clients = iter([None, shared.stop, None])

    def relay(send: Any, receive: Any) -> Any:
        return relay_websocket(shared, send, receive, stop=next(stops_of_clients))

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


def test_generation_stops_when_the_client_disconnects(
    serve: Serve, hanging: tuple[ScriptedServer, Any]
) -> None:
    service, answer = hanging
    with serve(lambda *channel: relay_websocket(answer, *channel)) as served:
        with client_of(served) as client:
            received(client)
        assert service.requests[0].wait_closed(BOUND)
        assert isinstance(served.wait(), (WebSocketDisconnect, ConnectionClosed))


def test_generation_stops_when_the_connection_breaks(
    serve: Serve, hanging: tuple[ScriptedServer, Any]
) -> None:
    service, answer = hanging
    with serve(lambda *channel: relay_websocket(answer, *channel)) as served:
        with client_of(served) as client:
            received(client)
            client.socket.shutdown(socket.SHUT_RDWR)  # without a closing handshake
            assert service.requests[0].wait_closed(BOUND)
        assert isinstance(served.wait(), (WebSocketDisconnect, ConnectionClosed))


# --- without a socket ------------------------------------------------------------


class Client:
    """Replaces a connection: records messages, and receives those that a test queues."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.incoming: asyncio.Queue[str | Exception] = asyncio.Queue()

    async def send(self, message: str) -> None:
        self.sent.append(msgspec.json.decode(message))

    async def receive(self) -> str:
        message = await self.incoming.get()
        if isinstance(message, Exception):
            raise message
        return message


def test_cancelled_task_disposes_the_source_and_leaves_no_task() -> None:
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


@pytest.mark.parametrize("side", ["send", "receive"])
def test_exception_of_the_connection_disposes_the_source(side: str) -> None:
    source: Subject[str] = Subject()

    async def broken(*_: str) -> str:
        raise ConnectionResetError(side)

    async def main() -> None:
        client = Client()
        channel: Any = {"send": client.send, "receive": client.receive, side: broken}
        started = source.pipe(ops.start_with("Hel"))
        with pytest.raises(ConnectionResetError, match=side):
            await relay_websocket(started, **channel)
        assert not source.observers

    run(main())


def test_one_exception_is_raised_when_send_and_receive_break() -> None:
    unretrieved: list[Any] = []

    async def broken(*_: str) -> str:
        await asyncio.sleep(0)
        raise ConnectionResetError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: unretrieved.append(context)
        )
        source = reactivex.concat(reactivex.of("Hel"), reactivex.never())
        with pytest.raises(ConnectionResetError):
            await relay_websocket(source, broken, broken)
        gc.collect()

    run(main())
    assert unretrieved == []


def test_fault_of_the_program_is_raised_after_the_end() -> None:
    async def main() -> None:
        client = Client()
        source = reactivex.of(1, 0).pipe(ops.map(lambda number: 1 // number))
        with pytest.raises(ZeroDivisionError):
            await relay_websocket(source, client.send, client.receive)
        assert [each["type"] for each in client.sent] == ["item", "end"]
        assert client.sent[-1]["message"] == "internal error"

    run(main())


def test_cancel_while_the_end_is_sent_does_not_add_another_end() -> None:
    async def main() -> None:
        client = Client()

        async def send(message: str) -> None:
            if '"end"' in message:
                client.incoming.put_nowait(CANCEL)
                await asyncio.sleep(0.01)  # the cancel is received meanwhile
            await client.send(message)

        await relay_websocket(reactivex.of("Hel"), send, client.receive)
        assert client.incoming.empty()
        assert [each.get("status") for each in client.sent] == [None, "completed"]

    run(main())


def test_exception_of_stop_is_raised() -> None:
    def stop() -> None:
        raise LookupError("no such run")

    async def main() -> None:
        client = Client()
        client.incoming.put_nowait(CANCEL)
        source: Subject[str] = Subject()
        with pytest.raises(LookupError):
            await relay_websocket(source, client.send, client.receive, stop=stop)
        assert not source.observers

    run(main())


def test_slow_client_slows_the_source() -> None:
    emitted = 0
    leads: list[int] = []

    def count(_: object) -> None:
        nonlocal emitted
        emitted += 1

    async def main() -> None:
        client = Client()

        async def send(message: str) -> None:
            if not client.sent:
                assert await asyncio.to_thread(eventually, lambda: emitted >= 512)
            leads.append(emitted - len(client.sent))
            await client.send(message)

        source = reactivex.range(5000).pipe(
            ops.do_action(count), ops.subscribe_on(NewThreadScheduler())
        )
        await relay_websocket(source, send, client.receive)
        assert len(client.sent) == 5001

    run(main())
    assert 500 < max(leads) < 600  # the buffer of a loop over a Stream


def test_invalid_arguments_are_refused_before_the_first_message() -> None:
    async def main() -> None:
        client = Client()
        source = reactivex.of("x")
        channel = (client.send, client.receive)
        with pytest.raises(TypeError, match="stop"):
            await relay_websocket(source, *channel, stop="stop")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="last_event_id"):
            await relay_websocket(source, *channel, last_event_id="1")
        assert client.sent == []

    run(main())
