"""A Stream as WebSocket messages, and the client's request to cancel it.

    Stream ──▶ {"type":"item","id":1,"item":"Hel"} ──────────▶ send
               {"type":"end","id":1,"status":"completed"} ───▶
     leave, or stop() ◀── {"type":"cancel"} ◀──────────────── receive

Two tasks: one sends, the other receives. The receiving task ends the sending by closing the
iteration that it sends from. It never cancels the sending task, so that no message is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from reactivex import Observable

from ..checks import check_callable, check_callback
from ..models import as_sent
from ..rx.history import Entry
from ..rx.iteration import AsyncIteration
from .encoder import Describe, Encoder, described, encoder_operator, ending_fields
from .resumption import Resumable, entries_after, resume_position

__all__ = ["MessageEncoder", "relay_websocket"]


class _Item(msgspec.Struct, tag="item"):
    id: int
    item: object


class _Cancel(msgspec.Struct):
    type: Literal["cancel"]


_json = msgspec.json.Encoder().encode
_decode_cancel = msgspec.json.Decoder(_Cancel).decode


class MessageEncoder(Encoder[Entry[Any], str]):
    def __init__(self, after: int, describe: Describe) -> None:
        self.ending: str | None = None  # the message that reports the end of the source
        self._last_id = after
        self._describe = describe

    def encode(self, entry: Entry[Any]) -> str:
        message = _json(_Item(entry.id, as_sent(entry.item))).decode()
        self._last_id = entry.id
        return message

    def end(self, error: Exception | None) -> str:
        self.ending = self.encode_ending(ending_fields(error, self._describe))
        return self.ending

    def encode_ending(self, fields: dict[str, str]) -> str:
        return _json({"type": "end", "id": self._last_id, **fields}).decode()


def _is_cancel(message: str | bytes) -> bool:
    try:
        _decode_cancel(message)
    except (msgspec.MsgspecError, UnicodeError):  # any other message
        return False
    return True


async def _receive_until_left(
    messages: AsyncIteration[str],
    receive: Callable[[], Awaitable[str | bytes]],
    stop: Callable[[], object] | None,
) -> None:
    """Closes the messages, and returns, when the client cancels; with `stop`, calls that."""
    try:
        while True:
            if _is_cancel(await receive()):
                if stop is None:
                    return
                stop()
    finally:
        await messages.aclose()


async def relay_websocket(
    source: Observable[Any] | Resumable[Any],
    send: Callable[[str], Awaitable[object]],
    receive: Callable[[], Awaitable[str | bytes]],
    *,
    stop: Callable[[], object] | None = None,
    last_event_id: str | None = None,
    describe: Describe = described,
) -> None:
    """Sends a Stream as WebSocket messages, until it has ended or the client has left.

    With Starlette or FastAPI:

        async def chat(websocket: WebSocket) -> None:
            await websocket.accept()
            with suppress(WebSocketDisconnect):  # the client has disconnected
                await relay_websocket(answer, websocket.send_text, websocket.receive_text)

    With the package `websockets`, pass `connection.send` and `connection.recv`, and suppress
    `ConnectionClosed`.

    Messages are JSON text. Each item is sent as `{"type":"item","id":...,"item":...}`. The
    last message is `{"type":"end","id":...,"status":...}` with the `status` of the `Outcome`;
    after an error also with the name of its class as `error`, and a `message`. The client may
    send `{"type":"cancel"}`; all other messages are ignored.

    A slow client slows the source, as a loop does. If the client disconnects, or the task is
    cancelled, the source is disposed, which stops the generation unless it is shared.

    Args:
        source: A Stream of anything that msgspec encodes, as in `server_sent_events`.
        send: Sends one message.
        receive: Waits for the next message; raises when the client has disconnected.
        stop: Called when the client cancels: `stop=shared.stop` ends the run for all its
            viewers. Default: only this client leaves, which stops a run that is not shared.
        last_event_id: The id of the last item that the page has, after which to resume, or
            None; as in `server_sent_events`. The source must be a `Resumable`.
        describe: Returns the message of an error; default: `described`.

    Raises:
        ValueError: `last_event_id` is given, but the source is not `Resumable`.
        Exception: The exception of `send` or `receive` when the client has disconnected; or
            a fault of the program, which is any error of the source but a `MistralError`.

    >>> import reactivex
    >>> async def send(message):
    ...     print(message)
    >>> async def receive():
    ...     await asyncio.Event().wait()  # a client that sends nothing
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
    encoded = encoder_operator(lambda: encoder)(entries_after(source, after))
    messages = AsyncIteration(encoded, lambda _: None)  # closed only here
    receiving = asyncio.create_task(_receive_until_left(messages, receive, stop))
    last_sent = ""
    try:
        async for message in messages:
            await send(message)
            last_sent = message
    finally:
        await messages.aclose()
        receiving.cancel()
        await asyncio.wait([receiving])
        if not receiving.cancelled():
            receiving.exception()  # otherwise asyncio reports that it was never retrieved
    if last_sent is not encoder.ending:
        receiving.result()  # raises the exception that ended it
        await send(encoder.encode_ending({"status": "cancelled"}))
