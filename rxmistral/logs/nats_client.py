"""A connection to NATS that any thread can use, and the requests that a log sends to JetStream.

    any thread                                 the thread rxmistral-nats, which runs an event loop
      call(work) ── run_coroutine_threadsafe ──▶ connect if necessary ──▶ await work(client)
      result     ◀───────────────────────────────────────────────────────────┘

If a connection breaks, the next call opens another one. nats-py could reconnect, but would send
what it had buffered: a write that has already failed for its caller would take effect later.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager, suppress
from functools import partial
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ..errors import LogError, LogUnavailableError

__all__ = ["JetStreamClient", "NatsConnection", "WriteConflict", "receives_message"]

T = TypeVar("T")

_ANSWER_TIMEOUT_SECONDS = 5.0  # of the server, for one request
_CLOSE_TIMEOUT_SECONDS = 1.0  # of a connection that was never established
_PING_SECONDS = 5  # between two checks of whether the connection is alive
_SCHEMES = ("nats://", "tls://", "ws://", "wss://")

# JetStream's statuses and error codes
_END_OF_MESSAGES = ("204", "404")
_NOT_FOUND = "404"
_UNAVAILABLE = 503  # an HTTP status, as JetStream's general error codes are
_WRONG_LAST_SEQUENCE = 10071
_OTHER_CONFIGURATION = 10058  # the stream exists, with another configuration


class WriteConflict(Exception):  # noqa: N818  # an expected answer, not an error
    """The server refused a message, because another one was written before it."""


class NatsConnection:
    """A connection to a server; `prepare` is called with each client before it is used."""

    def __init__(self, url: str, prepare: Callable[[JetStreamClient], Awaitable[object]]) -> None:
        _check_url(url)
        self._url = url
        self._prepare = prepare
        self._closed = False
        self._client: JetStreamClient | None = None
        self._connecting = asyncio.Lock()
        self._calls: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="rxmistral-nats", daemon=True)
        self._thread.start()

    def call(self, work: Callable[[JetStreamClient], Awaitable[T]]) -> T:
        """Returns the result of work that runs on the event loop of the connection."""
        if self._closed:
            raise LogError("the log is closed")
        try:
            return asyncio.run_coroutine_threadsafe(self._call(work), self._loop).result()
        except CancelledError:
            raise LogUnavailableError("the connection broke", 0.0) from None

    async def _call(self, work: Callable[[JetStreamClient], Awaitable[T]]) -> T:
        task: asyncio.Task[Any] | None = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await work(await self._connected_client())
        except nats_errors.MaxPayloadError as error:
            raise LogError("an item is larger than the max_payload of the server") from error
        except (nats_errors.Error, OSError, TimeoutError) as error:
            raise LogUnavailableError(str(error) or type(error).__name__, 0.0) from error
        finally:
            self._calls.discard(task)

    async def _connected_client(self) -> JetStreamClient:
        async with self._connecting:
            if self._client is None or not self._client.is_connected:
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> JetStreamClient:
        client = JetStreamClient(requires_tls=self._url.startswith("tls://"))
        try:
            await client.connect(
                self._url,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # of the first connection
                reconnect_time_wait=0,
                connect_timeout=int(_ANSWER_TIMEOUT_SECONDS),
                ping_interval=_PING_SECONDS,
                error_cb=_ignore_error,
                closed_cb=partial(self._cancel_calls, client),
            )
            await self._prepare(client)
        except BaseException:
            # After a failed TLS handshake, nats-py 2.16 waits for a transport that no longer
            # exists. The client is closed at that point.
            with suppress(TimeoutError):
                await asyncio.wait_for(client.close(), _CLOSE_TIMEOUT_SECONDS)
            raise
        return client

    async def _cancel_calls(self, client: JetStreamClient) -> None:
        if client is self._client:
            for call in self._calls:
                call.cancel()

    def close(self) -> None:
        """Ends the thread; running calls fail."""
        if not self._closed:
            self._closed = True
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _close(self) -> None:
        async with self._connecting:
            if self._client is not None:
                await self._client.close()
        await asyncio.gather(*self._calls, return_exceptions=True)


class JetStreamClient(Client):
    """A client with the requests of a log; with `tls://` it sends nothing without TLS.

    nats-py treats `tls://` as `nats://`: it starts TLS only if the server's INFO requires TLS,
    and otherwise sends the password in the clear. `_process_info` is an internal of nats-py,
    tested with 2.16.0: it is called with the first INFO, before TLS starts and before the
    CONNECT that contains the credentials.
    """

    def __init__(self, *, requires_tls: bool) -> None:
        super().__init__()
        self._requires_tls = requires_tls
        if requires_tls and not hasattr(Client, "_process_info"):
            raise LogError("this version of nats-py cannot enforce tls://: use nats-py 2.16")

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if self._requires_tls and initial_connection:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise LogError(
                    "the NATS server has no TLS, but url begins with tls://: "
                    "nothing was sent to it; configure TLS in the server, or use nats://"
                )
            info["tls_required"] = True  # otherwise nats-py does not use TLS that is available
        await super()._process_info(info, initial_connection)

    async def request_json(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        accepted_error: int | None = None,
    ) -> dict[str, Any]:
        """Returns the JSON that JetStream answers, unless it is an error that is not accepted."""
        message = await self.request(
            subject, payload, timeout=_ANSWER_TIMEOUT_SECONDS, headers=headers
        )
        answer: dict[str, Any] = json.loads(message.data)
        error = answer.get("error")
        if not error or error.get("err_code") == accepted_error:
            return answer
        if error.get("err_code") == _WRONG_LAST_SEQUENCE:
            raise WriteConflict
        description = str(error.get("description"))
        if error.get("code") == _UNAVAILABLE:
            raise LogUnavailableError(description, 0.0)
        raise LogError(description)

    async def create_stream(self, config: Mapping[str, object]) -> None:
        """Creates a stream; one with another configuration was configured on purpose, and stays."""
        subject = f"$JS.API.STREAM.CREATE.{config['name']}"
        payload = json.dumps(config).encode()
        await self.request_json(subject, payload, accepted_error=_OTHER_CONFIGURATION)

    async def direct_get(self, stream: str, subject: str) -> Msg | None:
        """Returns the last message of a subject (NATS ADR-31)."""
        api_subject = f"$JS.API.DIRECT.GET.{stream}.{subject}"
        message = await self.request(api_subject, timeout=_ANSWER_TIMEOUT_SECONDS)
        return None if _status(message) == _NOT_FOUND else message

    async def direct_get_batch(self, stream: str, query: Mapping[str, object]) -> list[Msg]:
        """Returns the messages that a batched request selects (NATS ADR-31)."""
        messages: list[Msg] = []
        async with self.subscription_to(self.new_inbox()) as inbox:
            payload = json.dumps(query).encode()
            await self.publish(f"$JS.API.DIRECT.GET.{stream}", payload, reply=inbox.subject)
            while not (status := _status(message := await inbox.next_msg(_ANSWER_TIMEOUT_SECONDS))):
                messages.append(message)
        if status not in _END_OF_MESSAGES:
            raise LogUnavailableError(f"NATS answered with status {status}", 0.0)
        return messages

    @asynccontextmanager
    async def subscription_to(self, subject: str) -> AsyncIterator[Subscription]:
        subscription = await self.subscribe(subject)
        try:
            yield subscription
        finally:
            with suppress(nats_errors.Error):  # the connection is closed
                await subscription.unsubscribe()


def _check_url(url: object) -> None:
    # The messages do not contain the URL, which may contain a password.
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, got {type(url).__name__}")
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        is_complete = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete:
        raise ValueError("url must have a host and a valid port, as nats://localhost:4222")
    if "://" in url and not url.startswith(_SCHEMES):
        raise ValueError(f"url must begin with one of {', '.join(_SCHEMES)}")


async def _ignore_error(error: Exception) -> None:
    """Ignores the error: the call that caused it raises it as well."""


def _status(message: Msg) -> str | None:
    """Returns the status of a message of the server; None for a message of the stream."""
    return (message.headers or {}).get("Status")


async def receives_message(subscription: Subscription, timeout_seconds: float) -> bool:
    try:
        await subscription.next_msg(timeout_seconds)
    except nats_errors.TimeoutError:
        return False
    return True
