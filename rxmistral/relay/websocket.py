"""A Stream to WebSocket messages; and back the client's wish that it stops.

    Stream ──▶ {"type":"item","id":1,"item":"Hel"} ──────────▶ send
               {"type":"end","id":1,"status":"completed"} ───▶
     leave, or stop() ◀── {"type":"cancel"} ◀──────────────── receive

Two tasks: one sends what comes, the other listens. The one that listens ends the sending
by closing what that reads, and never cancels it, so that no message is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from reactivex import Observable, abc

from ..checks import check_callable, check_callback
from ..rx.history import Entry
from ..rx.iteration import AsyncIteration
from ..rx.stream import Stream
from .encoder import Encoder, encoded_by, payload
from .endings import Describe, Ending, described, ending_of
from .numbering import Resumable, entries_of, resume_position

__all__ = ["MessageEncoder", "relay_websocket"]


class _Item(msgspec.Struct, tag="item"):
    id: int
    item: object


class _End(msgspec.Struct, tag="end", omit_defaults=True):
    id: int
    status: str
    error: str | None = None
    message: str | None = None


class _Cancel(msgspec.Struct):
    type: Literal["cancel"]


_json = msgspec.json.Encoder().encode
_decode_cancel = msgspec.json.Decoder(_Cancel).decode


class MessageEncoder(Encoder[Entry[Any], str]):
    """Encodes items, each as one message.

    Args:
        after: The id that the first of them comes after.
        describe: As of `relay_websocket`.

    Attributes:
        ending: The message that says how the source ended, or None.
    """

    def __init__(self, after: int, describe: Describe) -> None:
        self.ending: str | None = None
        self._last_id = after
        self._describe = describe

    def begin(self) -> str:
        return ""

    def encode(self, entry: Entry[Any]) -> str:
        message = _json(_Item(entry.id, payload(entry.item))).decode()
        self._last_id = entry.id
        return message

    def end(self, error: Exception | None) -> str:
        self.ending = self._end(ending_of(error, self._describe))
        return self.ending

    def left(self) -> str:
        """The end for a client that wished to leave; the run may go on."""
        return self._end(Ending(status="cancelled"))

    def _end(self, ending: Ending) -> str:
        end = _End(self._last_id, ending.status, ending.error, ending.message)
        return _json(end).decode()


class _Conversation:
    """What one client is told, and what it says."""

    def __init__(
        self,
        messages: Stream[str],
        send: Callable[[str], Awaitable[object]],
        receive: Callable[[], Awaitable[str | bytes]],
        stop: Callable[[], object] | None,
    ) -> None:
        self.left = False
        self.sent = ""  # the last one
        self._messages = AsyncIteration(messages, _untracked)
        self._send = send
        self._receive = receive
        self._stop = stop

    async def go_on(self) -> asyncio.Task[None]:
        """Until the messages have ended, or nobody is there; gives the task that listened."""
        listening = asyncio.create_task(self._listen())
        try:
            async for message in self._messages:
                await self._send(message)
                self.sent = message
        finally:
            await self._messages.aclose()
            listening.cancel()
            await asyncio.wait([listening])
            if not listening.cancelled():
                listening.exception()  # asked for, or it would be said to be lost
        return listening

    async def _listen(self) -> None:
        try:
            while not self.left:
                if _is_cancel(await self._receive()):
                    self._cancel()
        finally:
            await self._messages.aclose()

    def _cancel(self) -> None:
        if self._stop is None:
            self.left = True
        else:
            self._stop()


def _is_cancel(message: str | bytes) -> bool:
    try:
        _decode_cancel(message)
    except (msgspec.MsgspecError, UnicodeError):  # it says something else
        return False
    return True


def _untracked(_: abc.DisposableBase) -> None:
    """Nobody else ends it."""


async def relay_websocket(
    source: Observable[Any] | Resumable[Any],
    send: Callable[[str], Awaitable[object]],
    receive: Callable[[], Awaitable[str | bytes]],
    *,
    stop: Callable[[], object] | None = None,
    last_event_id: str | None = None,
    describe: Describe = described,
) -> None:
    """Send a Stream as WebSocket messages, until it has ended or the client wants no more.

    With Starlette or FastAPI:

        async def chat(websocket: WebSocket) -> None:
            await websocket.accept()
            with suppress(WebSocketDisconnect):  # the client has gone
                await relay_websocket(answer, websocket.send_text, websocket.receive_text)

    With the package `websockets`:

        async def chat(connection: ServerConnection) -> None:
            with suppress(ConnectionClosed):
                await relay_websocket(answer, connection.send, connection.recv)

    Messages are JSON text. There is `{"type":"item","id":...,"item":...}` for each item,
    and at the end `{"type":"end","id":...,"status":...}` with the `status` of the `Outcome`,
    and where there was an error the name of its class as `error` and a `message`. The
    client may send `{"type":"cancel"}`; whatever else it sends is for nobody.

    A client that is slow to take slows the source, as any loop does. One that is gone, and a
    task that is cancelled, dispose it: the generation stops, where it is not shared.

    Args:
        source: A Stream of anything that msgspec encodes, as of `server_sent_events`.
        send: Sends one message.
        receive: Waits for the next one, and raises when the client has gone.
        stop: What the client's cancel does: `stop=shared.stop` ends the run for all who
            watch it. By default this client leaves, which stops what is not shared.
        last_event_id: The id of the last item that the page has, as it says it, or None:
            where to go on, as of `server_sent_events`. The source must be a `Resumable`.
        describe: Gives the message of an error; by default `described`.

    Raises:
        ValueError: `last_event_id` is given, and the source is not `Resumable`.
        Exception: What `send` or `receive` raised when the client had gone. And what the
            source failed with, where that is no `MistralError`: the program has a fault.

    >>> import reactivex
    >>> async def send(message):
    ...     print(message)
    >>> async def receive():
    ...     await asyncio.Event().wait()  # a client that says nothing
    >>> asyncio.run(relay_websocket(reactivex.of("Hel", "lo"), send, receive))
    {"type":"item","id":1,"item":"Hel"}
    {"type":"item","id":2,"item":"lo"}
    {"type":"end","id":2,"status":"completed"}
    """
    check_callable("send", send)
    check_callable("receive", receive)
    check_callback("describe", describe)
    if stop is not None:
        check_callback("stop", stop)
    after = resume_position(source, last_event_id)
    encoder = MessageEncoder(after, describe)
    messages = encoded_by(lambda: encoder)(entries_of(source, after))
    conversation = _Conversation(messages, send, receive, stop)
    listening = await conversation.go_on()
    if conversation.sent is encoder.ending:
        return
    if conversation.left:
        await send(encoder.left())
    else:
        listening.result()  # raises what ended it
