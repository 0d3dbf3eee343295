"""A log in NATS JetStream; it needs `pip install rxmistral[nats]`, and a nats-server 2.11.

All runs are in one stream, which is made where it is missing. Of each run there are four
subjects, of which the stream keeps two:

    name.run.log     a claim, or a batch of items, or the last one with the ending
    name.run.beat    the last sign of life
    name.run.bell    something was written: who reads may look
    name.run.end     it has ended: who writes may look

A message of the log says in its headers whose it is, the number of its last item, and
who ended the run: so the last message is all the state there is. It is written on the
condition that the one before it is the one its writer knows ("expected last subject
sequence"); so of two who write at once one wins, and of two tries of one message.

A run is read by its sequence numbers, with a request for many messages ("direct get"):
the server has no consumer that could be left behind or lost.

nats-py lives on an event loop: this one has a thread of its own. A connection that breaks
is not mended but made anew by the next call, so that nothing is sent behind one's back.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from threading import Thread
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ..errors import (
    FencedError,
    LogError,
    LogUnavailableError,
    MistralError,
    StoppedError,
    UnknownRunError,
)
from .encoding import STOPPED
from .outage import OutageRetry
from .run_log import Page, check_bounds, check_name, check_run_id, name_of

__all__ = ["NatsLog"]

T = TypeVar("T")

_ANSWER = 5.0  # seconds that the server may take
_CLOSING = 1.0  # seconds that closing a connection may take that was never made
_PAGE = 256  # messages
_PAGE_BYTES = 512 * 1024
_MARKS = 4096  # places where readers are
_TRIES = 100  # to write when others write at the same time
_PAUSE = 0.01  # seconds between two
_PING = 5  # seconds between two looks at whether the connection still is one
_STOPPER = "stop"
_SCHEMES = ("nats://", "tls://", "ws://", "wss://")

# JetStream's statuses and error codes
_END_OF_MESSAGES = ("204", "404")
_UNAVAILABLE = 503  # an HTTP status, as its general ones are
_WRONG_LAST_SEQUENCE = 10071
_OTHER_CONFIGURATION = 10058

# headers
_TOKEN = "Rxmistral-Token"
_LAST = "Rxmistral-Last"
_ENDER = "Rxmistral-Ender"


class _Conflict(Exception):  # noqa: N818  # nothing went wrong
    """Somebody has written in between."""


class _Kept(NamedTuple):
    """A message as the stream keeps it."""

    sequence: int
    time: datetime
    token: str
    last: int
    ender: str | None
    lines: list[bytes]

    @staticmethod
    def of(message: Msg) -> _Kept:
        headers = message.headers or {}
        return _Kept(
            int(headers["Nats-Sequence"]),
            datetime.fromisoformat(headers["Nats-Time-Stamp"]),
            headers.get(_TOKEN, ""),
            int(headers.get(_LAST, 0)),
            headers.get(_ENDER),
            message.data.split(b"\n") if message.data else [],
        )

    @property
    def first(self) -> int:
        return self.last - len(self.items) + 1

    @property
    def items(self) -> list[bytes]:
        return self.lines if self.ender is None else self.lines[:-1]

    @property
    def ending(self) -> bytes | None:
        return None if self.ender is None else self.lines[-1]

    def check(self, run_id: str, token: str) -> None:
        """Raise where who has this token may not write any more."""
        if self.token != token:
            raise FencedError(run_id)
        if self.ender == _STOPPER:
            raise StoppedError


class NatsLog:
    """A `RunLog` in NATS JetStream, for any number of processes.

    Args:
        url: Where NATS is: `nats://`, `tls://`, `ws://` or `wss://`, with a token or with
            user and password before the host if it wants them. With `tls://` nothing is
            sent to a server without TLS.
        name: Of the stream, and what its subjects begin with. Letters, digits, - and _.
        ttl: Seconds that each item is kept; a run must not be silent for longer, even while
            its producer lives. The stream has it from who makes it.
        max_items: How many of a run's items are kept at least, the last ones; who reads
            from an earlier one that is gone gets `LaggedError`. The stream has it from
            who makes it.
        lease: Seconds without a sign of life after which a producer counts as dead.
        outage: Seconds that NATS may be away; what is written and read goes on then.

    The server's `max_payload` is the most that an item may have, a little less than 1 MiB
    where it is not configured. It must allow 300 000 bytes, as items are written together.

    Close it, or use it in a `with` block, when it is not needed any more: it has a thread.
    """

    def __init__(
        self,
        url: str = "nats://localhost:4222",
        *,
        name: str = "rxmistral",
        ttl: float = 3600.0,
        max_items: int = 100_000,
        lease: float = 10.0,
        outage: float = 30.0,
    ) -> None:
        _check_url(url)
        check_name(name)
        check_bounds(ttl, max_items, lease, outage)
        self.lease = lease
        self.outage = outage
        self._url = url
        self._name = name
        self._ttl = ttl
        self._max_items = max_items
        self._closed = False
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._calls: set[asyncio.Task[Any]] = set()
        self._written: dict[str, _Kept] = {}  # by token, of runs that go on: the last message
        self._marks: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="rxmistral-nats", daemon=True)
        self._thread.start()

    # the promises

    def begin(self, run_id: str, token: str, after: int = 0) -> None:
        check_run_id(run_id)
        self._write_down(lambda client: self._begin(client, run_id, token, after))

    async def _begin(self, client: Client, run_id: str, token: str, after: int) -> None:
        state = await self._last(client, run_id, "log")
        if state is not None:
            if state.token == token:
                return
            if state.ender or await self._lives(client, run_id, state):
                raise FencedError(run_id)
        if after != (0 if state is None else state.last):
            raise FencedError(run_id)
        await self._write(client, run_id, {_TOKEN: token, _LAST: str(after)}, [], state)

    async def _lives(self, client: Client, run_id: str, state: _Kept) -> bool:
        """Whether its producer does, by the server's clock."""
        beat = await self._last(client, run_id, "beat")
        seen = max(state.time, beat.time) if beat else state.time
        info = await _ask(client, f"$JS.API.STREAM.INFO.{self._name}")
        return datetime.fromisoformat(info["ts"]) - seen < timedelta(seconds=self.lease)

    def append(
        self,
        run_id: str,
        token: str,
        first: int,
        items: Sequence[bytes],
        ending: bytes | None = None,
    ) -> None:
        check_run_id(run_id)
        self._write_down(lambda client: self._append(client, run_id, token, first, items, ending))

    async def _append(
        self,
        client: Client,
        run_id: str,
        token: str,
        first: int,
        items: Sequence[bytes],
        ending: bytes | None,
    ) -> None:
        state = self._written.get(token)
        if state is None:
            state = await self._state(client, run_id, token)
            self._written[token] = state
        try:
            state = await self._write_items(client, run_id, state, first, items, ending)
        except BaseException:
            self._written.pop(token, None)  # it may have been written all the same
            raise
        if state.ender is not None:
            self._written.pop(token, None)
        elif token in self._written:  # and was not refused meanwhile
            self._written[token] = state

    async def _write_items(
        self,
        client: Client,
        run_id: str,
        state: _Kept,
        first: int,
        items: Sequence[bytes],
        ending: bytes | None,
    ) -> _Kept:
        """What the state is when they are written, after this one."""
        if state.ender is not None:  # by this call, which was not answered
            return state
        if first > state.last + 1:
            raise LogError("NATS has lost items that it had accepted")
        new = list(items[state.last + 1 - first :])
        last = state.last + len(new)
        headers = {_TOKEN: state.token, _LAST: str(last)}
        if ending is not None:
            headers[_ENDER] = "producer"
            new.append(ending)
        if not new:
            return state
        sequence = await self._write(client, run_id, headers, new, state)
        return _Kept(sequence, state.time, state.token, last, headers.get(_ENDER), [])

    def keep(self, run_id: str, token: str, wait: float) -> None:
        check_run_id(run_id)
        self._call(lambda client: self._keep(client, run_id, token, wait))

    async def _keep(self, client: Client, run_id: str, token: str, wait: float) -> None:
        async with _listening(client, self._subject(run_id, "end")) as end:
            state = await self._state(client, run_id, token)
            if state.ender is None:
                beat = self._subject(run_id, "beat")
                await _ask(client, beat, headers={"Nats-Rollup": "sub"})
                if await _rings(end, wait):
                    await self._state(client, run_id, token)

    def read(self, run_id: str, after: int, wait: float) -> Page:
        check_run_id(run_id)
        return self._call(lambda client: self._read(client, run_id, after, wait))

    async def _read(self, client: Client, run_id: str, after: int, wait: float) -> Page:
        async with _listening(client, self._subject(run_id, "bell")) as bell:
            page = await self._page(client, run_id, after)
            if page is None and await _rings(bell, wait):
                page = await self._page(client, run_id, after)
        return page or await self._page_without_items(client, run_id, after)

    def stop(self, run_id: str) -> None:
        check_run_id(run_id)
        retry_outage = OutageRetry(self.outage)
        retry_outage(lambda: self._write_down(lambda client: self._stop(client, run_id)))

    async def _stop(self, client: Client, run_id: str) -> None:
        state = await self._last(client, run_id, "log")
        if state is None:
            raise UnknownRunError(run_id)
        if state.ender is None:
            headers = {_TOKEN: state.token, _LAST: str(state.last), _ENDER: _STOPPER}
            await self._write(client, run_id, headers, [STOPPED], state)

    # a run's messages

    def _subject(self, run_id: str, of: str) -> str:
        return f"{self._name}.{name_of(run_id)}.{of}"

    async def _write(
        self,
        client: Client,
        run_id: str,
        headers: dict[str, str],
        lines: list[bytes],
        state: _Kept | None,
    ) -> int:
        """A message after the one that is the state as we know it; its sequence number."""
        headers["Nats-Expected-Last-Subject-Sequence"] = str(state.sequence if state else 0)
        log = self._subject(run_id, "log")
        acknowledged = await _ask(client, log, b"\n".join(lines), headers)
        await client.publish(self._subject(run_id, "bell"))
        if _ENDER in headers:
            await client.publish(self._subject(run_id, "end"))
        sequence: int = acknowledged["seq"]
        return sequence

    async def _state(self, client: Client, run_id: str, token: str) -> _Kept:
        """The last message, which says that who has this token may write."""
        state = await self._last(client, run_id, "log")
        try:
            if state is None:
                raise UnknownRunError(run_id)
            state.check(run_id, token)
        except MistralError:
            self._written.pop(token, None)  # nothing more is written with this token
            raise
        return state

    async def _last(self, client: Client, run_id: str, of: str) -> _Kept | None:
        subject = f"$JS.API.DIRECT.GET.{self._name}.{self._subject(run_id, of)}"
        message = await client.request(subject, timeout=_ANSWER)
        return None if _status(message) == "404" else _Kept.of(message)

    async def _page(self, client: Client, run_id: str, after: int) -> Page | None:
        """What comes after this item, if anything does."""
        sequence = self._marks.get((run_id, after), 1)
        while messages := await self._messages(client, run_id, sequence):
            for message in messages:
                self._mark(run_id, message)
            sequence = messages[-1].sequence + 1
            wanted = [each for each in messages if (each.last > after and each.items) or each.ender]
            if wanted:
                first = max(wanted[0].first, after + 1)
                items = [item for each in wanted for item in each.items]
                return Page(first, items[first - wanted[0].first :], wanted[-1].ending)
        return None

    def _mark(self, run_id: str, message: _Kept) -> None:
        """Who has read this message goes on after it."""
        self._marks[run_id, message.last] = message.sequence + 1
        if len(self._marks) > _MARKS:
            self._marks.popitem(last=False)

    async def _messages(self, client: Client, run_id: str, sequence: int) -> list[_Kept]:
        """A run's messages from a sequence number on, as many as one request gives."""
        wanted = {
            "seq": sequence,
            "next_by_subj": self._subject(run_id, "log"),
            "batch": _PAGE,
            "max_bytes": _PAGE_BYTES,
        }
        messages: list[_Kept] = []
        async with _listening(client, client.new_inbox()) as inbox:
            subject = f"$JS.API.DIRECT.GET.{self._name}"
            await client.publish(subject, json.dumps(wanted).encode(), reply=inbox.subject)
            while (status := _status(message := await inbox.next_msg(_ANSWER))) is None:
                messages.append(_Kept.of(message))
        if status not in _END_OF_MESSAGES:
            raise LogUnavailableError(f"NATS answered with status {status}", 0.0)
        return messages

    async def _page_without_items(self, client: Client, run_id: str, after: int) -> Page:
        state = await self._last(client, run_id, "log")
        if state is None:
            raise UnknownRunError(run_id)
        if state.ender is not None and after >= state.last:
            return Page(after + 1, (), state.ending)
        beat = await self._last(client, run_id, "beat")
        return Page(after + 1, (), None, beat.sequence if beat else 0)

    # the connection

    def _write_down(self, work: Callable[[Client], Awaitable[None]]) -> None:
        self._call(lambda client: _settled(partial(work, client)))

    def _call(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do what needs a connection, on the loop's thread."""
        if self._closed:
            raise LogError("it is closed")
        try:
            return asyncio.run_coroutine_threadsafe(self._work(work), self._loop).result()
        except CancelledError:
            raise LogUnavailableError("the connection broke", 0.0) from None

    async def _work(self, work: Callable[[Client], Awaitable[T]]) -> T:
        task: asyncio.Task[Any] | None = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await work(await self._connected())
        except nats_errors.MaxPayloadError as error:
            raise LogError("an item is larger than NATS takes") from error
        except (nats_errors.Error, OSError, TimeoutError) as error:
            raise LogUnavailableError(str(error) or type(error).__name__, 0.0) from error
        finally:
            self._calls.discard(task)

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None or not self._client.is_connected:
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> Client:
        client = _Client(requires_tls=self._url.startswith("tls://"))
        try:
            await client.connect(
                self._url,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # of the first connection
                reconnect_time_wait=0,
                connect_timeout=int(_ANSWER),
                ping_interval=_PING,
                error_cb=_say_nothing,
                closed_cb=partial(self._end_calls_of, client),
            )
            await self._make_stream(client)
        except BaseException:
            # After a TLS handshake that failed, nats-py 2.16 waits for a transport that is
            # no longer there. It is closed by then.
            with suppress(TimeoutError):
                await asyncio.wait_for(client.close(), _CLOSING)
            raise
        return client

    async def _make_stream(self, client: Client) -> None:
        config = {
            "name": self._name,
            "subjects": [f"{self._name}.*.log", f"{self._name}.*.beat"],
            "max_age": int(self._ttl * 1e9),
            "max_msgs_per_subject": self._max_items + 2,  # the claim, and the ending alone
            "storage": "file",
            "allow_direct": True,
            "allow_rollup_hdrs": True,
        }
        subject = f"$JS.API.STREAM.CREATE.{self._name}"
        # One that is there, and not as we would make it, is somebody's who knows better.
        await _ask(client, subject, json.dumps(config).encode(), accepted=_OTHER_CONFIGURATION)

    async def _end_calls_of(self, client: Client) -> None:
        """What waits for an answer of a connection that is closed waits in vain."""
        if client is self._client:
            for call in self._calls:
                call.cancel()

    def close(self) -> None:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


# --- NATS in a few words ---------------------------------------------------------


class _Client(Client):
    """A client that sends nothing over a connection without TLS where `tls://` was asked for.

    nats-py takes `tls://` for `nats://`: it begins TLS if the server's INFO requires it,
    and else sends the password in the clear. Tried on nats-py 2.16.0, of which this is an
    internal: it is called with the first INFO, before TLS begins and before the CONNECT
    that has the credentials.
    """

    def __init__(self, *, requires_tls: bool) -> None:
        super().__init__()
        self._requires_tls = requires_tls
        if requires_tls and not hasattr(Client, "_process_info"):
            raise LogError("this version of nats-py cannot be held to tls://: use nats-py 2.16")

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if self._requires_tls and initial_connection:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise LogError(
                    "the NATS server has no TLS, and url begins with tls://: "
                    "nothing was sent to it; configure TLS in the server, or use nats://"
                )
            info["tls_required"] = True  # else nats-py would not use what is available
        await super()._process_info(info, initial_connection)


def _check_url(url: object) -> None:
    """Raise for what says of no server where it is; not with the URL, which may hold a key."""
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, got {type(url).__name__}")
    try:
        where = urlsplit(url if "://" in url else f"//{url}")
        complete = bool(where.hostname) and where.port != 0
    except ValueError:
        complete = False
    if not complete:
        raise ValueError("url must have a host and a valid port, as nats://localhost:4222")
    if "://" in url and not url.startswith(_SCHEMES):
        raise ValueError(f"url must begin with one of {', '.join(_SCHEMES)}")


async def _ask(
    client: Client,
    subject: str,
    payload: bytes = b"",
    headers: dict[str, str] | None = None,
    accepted: int | None = None,
) -> dict[str, Any]:
    """What JetStream answers; an error with the accepted code is an answer, too."""
    message = await client.request(subject, payload, timeout=_ANSWER, headers=headers)
    answer: dict[str, Any] = json.loads(message.data)
    error = answer.get("error")
    if error and error.get("err_code") != accepted:
        _refuse(error)
    return answer


def _refuse(error: dict[str, Any]) -> NoReturn:
    said = str(error.get("description"))
    if error.get("err_code") == _WRONG_LAST_SEQUENCE:
        raise _Conflict
    if error.get("code") == _UNAVAILABLE:
        raise LogUnavailableError(said, 0.0)
    raise LogError(said)


def _status(message: Msg) -> str | None:
    """The status of a message that is none of ours."""
    return (message.headers or {}).get("Status")


@asynccontextmanager
async def _listening(client: Client, subject: str) -> AsyncIterator[Subscription]:
    subscription = await client.subscribe(subject)
    try:
        yield subscription
    finally:
        with suppress(nats_errors.Error):  # the connection is closed
            await subscription.unsubscribe()


async def _rings(subscription: Subscription, wait: float) -> bool:
    """Whether a message comes within the wait."""
    try:
        await subscription.next_msg(wait)
    except nats_errors.TimeoutError:
        return False
    return True


async def _settled(work: Callable[[], Awaitable[None]]) -> None:
    """Do it; again where somebody else has written in between."""
    for _ in range(_TRIES):
        try:
            await work()
        except _Conflict:
            await asyncio.sleep(_PAUSE)
        else:
            return
    raise LogUnavailableError("others write the same run all the time", 0.0)


async def _say_nothing(error: Exception) -> None:
    """It is raised as well, where somebody waits."""
