"""A log in NATS JetStream; requires `pip install rxmistral[nats]`, and nats-server 2.11.

One stream stores all runs; it is created if it does not exist. A run has four subjects, of
which the stream stores the first two:

    name.run.log     a claim by a producer, a batch of items, or a batch with the ending
    name.run.beat    the last heartbeat
    name.run.bell    a wake-up for readers: something was written
    name.run.end     a wake-up for the producer: the run has ended

The headers of each message in the log contain the token of the producer, the number of the
last item so far, and who ended the run. So the last message is the whole state of a run. A
message is written on the condition that the message before it is the one that its writer
knows ("expected last subject sequence"): of two concurrent writers one wins, and a message
that is sent twice is stored once.

Readers request messages by their sequence numbers ("direct get"), many at a time. The server
keeps no consumer for a reader, which could outlive its reader or be lost.

Subjects and headers have kept their names since version 0.1.0, so that processes of different
versions can share a run.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, Self, TypeVar, TypeVarTuple

from nats.aio.client import Client
from nats.aio.msg import Msg

from ..errors import (
    FencedError,
    LogError,
    LogUnavailableError,
    MistralError,
    StoppedError,
    UnknownRunError,
)
from .encoding import STOPPED_ENDING
from .nats_client import (
    OTHER_CONFIGURATION,
    NatsConnection,
    WriteConflict,
    direct_get,
    direct_get_batch,
    receives_message,
    request,
    subscription_to,
)
from .outage import OutageRetry
from .run_log import Page, check_bounds, check_name, check_run_id, quote_run_id

__all__ = ["NatsLog"]

T = TypeVar("T")
Args = TypeVarTuple("Args")

_PAGE_MESSAGES = 256
_PAGE_BYTES = 512 * 1024
_MAX_POSITIONS = 4096  # of readers, whose sequence numbers are cached
_MAX_ATTEMPTS = 100  # to write, while others write into the same run
_CONFLICT_PAUSE_SECONDS = 0.01  # between two of them
_STOPPER = "stop"  # ended a run in place of a producer

# headers
_TOKEN = "Rxmistral-Token"
_LAST = "Rxmistral-Last"
_ENDED_BY = "Rxmistral-Ender"


class _LogMessage(NamedTuple):
    """A message of a run as the stream stores it; the last one is the state of the run."""

    sequence: int
    time: datetime
    token: str
    last: int  # the number of the last item
    ended_by: str | None
    lines: list[bytes]

    @staticmethod
    def of(message: Msg) -> _LogMessage:
        headers = message.headers or {}
        return _LogMessage(
            int(headers["Nats-Sequence"]),
            datetime.fromisoformat(headers["Nats-Time-Stamp"]),
            headers.get(_TOKEN, ""),
            int(headers.get(_LAST, 0)),
            headers.get(_ENDED_BY),
            message.data.split(b"\n") if message.data else [],
        )

    @property
    def first(self) -> int:
        return self.last - len(self.items) + 1

    @property
    def items(self) -> list[bytes]:
        return self.lines if self.ended_by is None else self.lines[:-1]

    @property
    def ending(self) -> bytes | None:
        return None if self.ended_by is None else self.lines[-1]

    def check_producer(self, run_id: str, token: str) -> None:
        """Raises unless the producer with this token may write."""
        if self.token != token:
            raise FencedError(run_id)
        if self.ended_by == _STOPPER:
            raise StoppedError


class NatsLog:
    """A `RunLog` in NATS JetStream, for any number of processes.

    Close it, or use it in a `with` block, when it is no longer needed: it owns a thread.

    The `max_payload` of the server limits the size of an item; the default is a little less
    than 1 MiB. It must be at least 300 000 bytes, since items are written in batches.

    Args:
        url: The address of NATS: `nats://`, `tls://`, `ws://` or `wss://`, with a token, or
            with user and password, before the host if the server requires them. With
            `tls://` nothing is sent to a server without TLS.
        name: The name of the stream, and the prefix of its subjects. Letters, digits, - and _.
        ttl: Seconds that each item is stored. A run must not be silent for longer, even while
            its producer is alive. The process that creates the stream determines it.
        max_items: How many items of a run are stored at least, the last ones; a reader that
            asks for an earlier one gets `LaggedError`. The process that creates the stream
            determines it.
        lease: Seconds without a heartbeat after which a producer is considered dead.
        outage: Seconds for which NATS may be unreachable; writing and reading then continue.
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
        check_name(name)
        check_bounds(ttl, max_items, lease, outage)
        self.lease = lease
        self.outage = outage
        self._name = name
        self._ttl = ttl
        self._max_items = max_items
        self._states: dict[str, _LogMessage] = {}  # of runs that this process writes, by token
        self._positions: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._connection = NatsConnection(url, self._create_stream)

    async def _create_stream(self, client: Client) -> None:
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
        # A stream that exists with another configuration was configured on purpose.
        payload = json.dumps(config).encode()
        await request(client, subject, payload, accepted_error=OTHER_CONFIGURATION)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # the interface of RunLog

    def begin(self, run_id: str, token: str, after: int = 0) -> None:
        self._call(self._begin, run_id, token, after)

    async def _begin(self, client: Client, run_id: str, token: str, after: int) -> None:
        state = await self._last_message(client, run_id, "log")
        if state is not None:
            if state.token == token:
                return
            if state.ended_by or await self._has_lease(client, run_id, state):
                raise FencedError(run_id)
        if after != (0 if state is None else state.last):
            raise FencedError(run_id)
        await self._write(client, run_id, {_TOKEN: token, _LAST: str(after)}, [], state)

    async def _has_lease(self, client: Client, run_id: str, state: _LogMessage) -> bool:
        """Returns whether the producer's lease is valid, by the server's clock."""
        heartbeat = await self._last_message(client, run_id, "beat")
        renewed_at = max(state.time, heartbeat.time) if heartbeat else state.time
        info = await request(client, f"$JS.API.STREAM.INFO.{self._name}")
        return datetime.fromisoformat(info["ts"]) - renewed_at < timedelta(seconds=self.lease)

    def append(
        self,
        run_id: str,
        token: str,
        first: int,
        items: Sequence[bytes],
        ending: bytes | None = None,
    ) -> None:
        self._call(self._append, run_id, token, first, items, ending)

    async def _append(
        self,
        client: Client,
        run_id: str,
        token: str,
        first: int,
        items: Sequence[bytes],
        ending: bytes | None,
    ) -> None:
        state = self._states.get(token)
        if state is None:
            state = self._states[token] = await self._producer_state(client, run_id, token)
        try:
            if state.ended_by is None:  # otherwise an earlier attempt of this call was stored
                if first > state.last + 1:
                    raise LogError("NATS has lost items that it had accepted")
                state = await self._write_batch(
                    client, run_id, state, items[state.last + 1 - first :], ending
                )
        except BaseException:
            self._states.pop(token, None)  # the message may have been stored nevertheless
            raise
        if state.ended_by is not None:
            self._states.pop(token, None)
        elif token in self._states:  # a refused heartbeat may have removed it meanwhile
            self._states[token] = state

    async def _write_batch(
        self,
        client: Client,
        run_id: str,
        state: _LogMessage,
        items: Sequence[bytes],
        ending: bytes | None,
    ) -> _LogMessage:
        """Writes items that the run does not have yet; returns its new state."""
        lines = [*items] if ending is None else [*items, ending]
        if not lines:
            return state
        last = state.last + len(items)
        headers = {_TOKEN: state.token, _LAST: str(last)}
        if ending is not None:
            headers[_ENDED_BY] = "producer"
        sequence = await self._write(client, run_id, headers, lines, state)
        return _LogMessage(sequence, state.time, state.token, last, headers.get(_ENDED_BY), [])

    def keep(self, run_id: str, token: str, wait: float) -> None:
        self._call(self._keep, run_id, token, wait)

    async def _keep(self, client: Client, run_id: str, token: str, wait: float) -> None:
        async with subscription_to(client, self._subject(run_id, "end")) as ended:
            state = await self._producer_state(client, run_id, token)
            if state.ended_by is None:
                heartbeat = self._subject(run_id, "beat")
                await request(client, heartbeat, headers={"Nats-Rollup": "sub"})
                if await receives_message(ended, wait):
                    await self._producer_state(client, run_id, token)

    def read(self, run_id: str, after: int, wait: float) -> Page:
        return self._call(self._read, run_id, after, wait)

    async def _read(self, client: Client, run_id: str, after: int, wait: float) -> Page:
        async with subscription_to(client, self._subject(run_id, "bell")) as written:
            page = await self._page(client, run_id, after)
            if page is None and await receives_message(written, wait):
                page = await self._page(client, run_id, after)
        return page or await self._page_without_items(client, run_id, after)

    def stop(self, run_id: str) -> None:
        OutageRetry(self.outage)(lambda: self._call(self._stop, run_id))

    async def _stop(self, client: Client, run_id: str) -> None:
        state = await self._last_message(client, run_id, "log")
        if state is None:
            raise UnknownRunError(run_id)
        if state.ended_by is None:
            headers = {_TOKEN: state.token, _LAST: str(state.last), _ENDED_BY: _STOPPER}
            await self._write(client, run_id, headers, [STOPPED_ENDING], state)

    def _call(
        self, operation: Callable[[Client, str, *Args], Awaitable[T]], run_id: str, *args: *Args
    ) -> T:
        check_run_id(run_id)
        return self._connection.call(
            lambda client: _retry_conflicts(partial(operation, client, run_id, *args))
        )

    # writing

    def _subject(self, run_id: str, kind: str) -> str:
        return f"{self._name}.{quote_run_id(run_id)}.{kind}"

    async def _write(
        self,
        client: Client,
        run_id: str,
        headers: dict[str, str],
        lines: list[bytes],
        state: _LogMessage | None,
    ) -> int:
        """Writes a message after the last one that is known; returns its sequence number."""
        headers["Nats-Expected-Last-Subject-Sequence"] = str(state.sequence if state else 0)
        log = self._subject(run_id, "log")
        acknowledgement = await request(client, log, b"\n".join(lines), headers)
        await client.publish(self._subject(run_id, "bell"))
        if _ENDED_BY in headers:
            await client.publish(self._subject(run_id, "end"))
        sequence: int = acknowledgement["seq"]
        return sequence

    async def _producer_state(self, client: Client, run_id: str, token: str) -> _LogMessage:
        """Returns the state of a run; raises unless the producer with this token may write."""
        state = await self._last_message(client, run_id, "log")
        try:
            if state is None:
                raise UnknownRunError(run_id)
            state.check_producer(run_id, token)
        except MistralError:
            self._states.pop(token, None)  # nothing more is written with this token
            raise
        return state

    async def _last_message(self, client: Client, run_id: str, kind: str) -> _LogMessage | None:
        message = await direct_get(client, self._name, self._subject(run_id, kind))
        return None if message is None else _LogMessage.of(message)

    # reading

    async def _page(self, client: Client, run_id: str, after: int) -> Page | None:
        """Returns what follows the item with this number, or None if nothing does."""
        sequence = self._positions.get((run_id, after), 1)
        while messages := await self._messages(client, run_id, sequence):
            for message in messages:
                self._cache_position(run_id, message)
            sequence = messages[-1].sequence + 1
            new = [each for each in messages if (each.last > after and each.items) or each.ended_by]
            if new:
                first = max(new[0].first, after + 1)
                items = [item for each in new for item in each.items]
                return Page(first, items[first - new[0].first :], new[-1].ending)
        return None

    def _cache_position(self, run_id: str, message: _LogMessage) -> None:
        """Remembers the sequence number from which a reader of this message continues."""
        self._positions[run_id, message.last] = message.sequence + 1
        if len(self._positions) > _MAX_POSITIONS:
            self._positions.popitem(last=False)

    async def _messages(self, client: Client, run_id: str, sequence: int) -> list[_LogMessage]:
        """Returns a run's messages from a sequence number on, as many as one request returns."""
        query: dict[str, object] = {
            "seq": sequence,
            "next_by_subj": self._subject(run_id, "log"),
            "batch": _PAGE_MESSAGES,
            "max_bytes": _PAGE_BYTES,
        }
        return [_LogMessage.of(each) for each in await direct_get_batch(client, self._name, query)]

    async def _page_without_items(self, client: Client, run_id: str, after: int) -> Page:
        state = await self._last_message(client, run_id, "log")
        if state is None:
            raise UnknownRunError(run_id)
        if state.ended_by is not None and after >= state.last:
            return Page(after + 1, (), state.ending)
        heartbeat = await self._last_message(client, run_id, "beat")
        return Page(after + 1, (), None, heartbeat.sequence if heartbeat else 0)


async def _retry_conflicts(work: Callable[[], Awaitable[T]]) -> T:
    """Repeats work until no other writer has interfered."""
    for _ in range(_MAX_ATTEMPTS):
        try:
            return await work()
        except WriteConflict:
            await asyncio.sleep(_CONFLICT_PAUSE_SECONDS)
    raise LogUnavailableError(
        f"another process wrote first in each of {_MAX_ATTEMPTS} attempts", 0.0
    )
