"""A log in NATS JetStream; requires `pip install rxmistral[nats]`, and nats-server 2.11.

One stream stores all runs; it is created if it does not exist. A run has four subjects, of
which the stream stores the first two:

    name.run.log     a claim by a producer, a batch of items, or a batch with the ending
    name.run.beat    the last heartbeat
    name.run.bell    a wake-up for readers: something was written
    name.run.end     a wake-up for the producer: the run has ended

The headers of a message in the log contain the token of the producer, the number of the last
item so far, and how the run has ended, so the last message is the whole state of a run. Each
message is written on the condition that the one before it is the last that its writer knows
("expected last subject sequence"): of two concurrent writers one wins, and a message that is
sent twice is stored once.

Readers request messages by their sequence numbers ("direct get"), many at a time, so that the
server keeps no consumer, which could outlive its reader or be lost.

Subjects and headers keep their names, so that processes of different versions can share a run.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar, TypeVarTuple

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ..errors import FencedError, LogError, LogUnavailableError, StoppedError, UnknownRunError
from .encoding import STOPPED_ENDING
from .nats_client import JetStreamClient, NatsConnection, WriteConflict, receives_message
from .run_log import BrokerLog, Lines, OutageRetry, Page, check_run_id, quote_run_id

__all__ = ["NatsLog"]

T = TypeVar("T")
Args = TypeVarTuple("Args")

_PAGE_BOUNDS = {"batch": 256, "max_bytes": 512 * 1024}
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


class _JetStreamRun:
    """One run in the stream, over one connection."""

    def __init__(self, client: JetStreamClient, stream: str, run_id: str) -> None:
        self.id = run_id
        self._client = client
        self._stream = stream

    def _subject(self, kind: str) -> str:
        return f"{self._stream}.{quote_run_id(self.id)}.{kind}"

    def wake_ups(self, kind: str) -> AbstractAsyncContextManager[Subscription]:
        return self._client.subscription_to(self._subject(kind))

    async def last_message(self, kind: str) -> _LogMessage | None:
        message = await self._client.direct_get(self._stream, self._subject(kind))
        return None if message is None else _LogMessage.of(message)

    async def state(self) -> _LogMessage:
        state = await self.last_message("log")
        if state is None:
            raise UnknownRunError(self.id)
        return state

    async def messages_from(self, sequence: int) -> list[_LogMessage]:
        """Returns the messages from a sequence number on, as many as one request returns."""
        query = {"seq": sequence, "next_by_subj": self._subject("log"), **_PAGE_BOUNDS}
        return [*map(_LogMessage.of, await self._client.direct_get_batch(self._stream, query))]

    async def has_lease(self, state: _LogMessage, lease_seconds: float) -> bool:
        """Returns whether the producer's lease is valid, by the server's clock."""
        heartbeat = await self.last_message("beat")
        renewed_at = max(state.time, heartbeat.time) if heartbeat else state.time
        info = await self._client.request_json(f"$JS.API.STREAM.INFO.{self._stream}")
        return datetime.fromisoformat(info["ts"]) - renewed_at < timedelta(seconds=lease_seconds)

    async def renew_lease(self) -> None:
        await self._client.request_json(self._subject("beat"), headers={"Nats-Rollup": "sub"})

    async def write(
        self,
        state: _LogMessage | None,
        token: str,
        last: int,
        lines: list[bytes],
        ended_by: str | None = None,
    ) -> int:
        """Writes a message after the last one that is known; returns its sequence number."""
        headers = {_TOKEN: token, _LAST: str(last)}
        headers["Nats-Expected-Last-Subject-Sequence"] = str(state.sequence if state else 0)
        if ended_by is not None:
            headers[_ENDED_BY] = ended_by
        log = self._subject("log")
        acknowledgement = await self._client.request_json(log, b"\n".join(lines), headers)
        await self._client.publish(self._subject("bell"))
        if ended_by is not None:
            await self._client.publish(self._subject("end"))
        sequence: int = acknowledgement["seq"]
        return sequence

    async def write_batch(
        self, state: _LogMessage, items: Lines, ending: bytes | None
    ) -> _LogMessage:
        """Writes items that the run does not have yet; returns its new state."""
        lines = [*items] if ending is None else [*items, ending]
        if not lines:
            return state
        last = state.last + len(items)
        ended_by = None if ending is None else "producer"
        sequence = await self.write(state, state.token, last, lines, ended_by)
        return _LogMessage(sequence, state.time, state.token, last, ended_by, [])


class NatsLog(BrokerLog):
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
        max_items: How many items of a run are stored at least, the last ones; for an earlier
            one a reader gets `LaggedError`. The process that creates the stream determines it.
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
        super().__init__(name, ttl, max_items, lease, outage)
        self._states: dict[str, _LogMessage] = {}  # of runs that this process writes, by token
        # The sequence number of the message after each item, from which a reader continues.
        self._positions: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._connection = NatsConnection(url, self._create_stream)

    async def _create_stream(self, client: JetStreamClient) -> None:
        await client.create_stream(
            {
                "name": self._name,
                "subjects": [f"{self._name}.*.log", f"{self._name}.*.beat"],
                "max_age": int(self._ttl * 1e9),
                "max_msgs_per_subject": self._max_items + 2,  # the claim, and the ending alone
                "storage": "file",
                "allow_direct": True,
                "allow_rollup_hdrs": True,
            }
        )

    def close(self) -> None:
        self._connection.close()

    def _call(
        self, operation: Callable[[_JetStreamRun, *Args], Awaitable[T]], run_id: str, *args: *Args
    ) -> T:
        """Runs an operation on the connection, again if another writer has interfered."""
        check_run_id(run_id)

        async def work(client: JetStreamClient) -> T:
            run = _JetStreamRun(client, self._name, run_id)
            for _ in range(_MAX_ATTEMPTS):
                with suppress(WriteConflict):
                    return await operation(run, *args)
                await asyncio.sleep(_CONFLICT_PAUSE_SECONDS)
            raise LogUnavailableError(
                f"another process wrote first in each of {_MAX_ATTEMPTS} attempts", 0.0
            )

        return self._connection.call(work)

    # writing

    def begin(self, run_id: str, token: str, after: int = 0) -> None:
        self._call(self._begin, run_id, token, after)

    async def _begin(self, run: _JetStreamRun, token: str, after: int) -> None:
        state = await run.last_message("log")
        if state is not None:
            if state.token == token:
                return
            if state.ended_by or await run.has_lease(state, self.lease):
                raise FencedError(run.id)
        if after != (0 if state is None else state.last):
            raise FencedError(run.id)
        await run.write(state, token, after, [])

    def append(
        self, run_id: str, token: str, first: int, items: Lines, ending: bytes | None = None
    ) -> None:
        self._call(self._append, run_id, token, first, items, ending)

    async def _append(
        self, run: _JetStreamRun, token: str, first: int, items: Lines, ending: bytes | None
    ) -> None:
        state = self._states.get(token)
        if state is None:
            state = self._states[token] = await self._producer_state(run, token)
        try:
            if state.ended_by is None:  # otherwise an earlier attempt of this call was stored
                if first > state.last + 1:
                    raise LogError("NATS has lost items that it had accepted")
                state = await run.write_batch(state, items[state.last + 1 - first :], ending)
        except BaseException:
            self._states.pop(token, None)  # the message may have been stored nevertheless
            raise
        if state.ended_by is not None:
            self._states.pop(token, None)
        elif token in self._states:  # a refused heartbeat may have removed it meanwhile
            self._states[token] = state

    def keep(self, run_id: str, token: str, wait: float) -> None:
        self._call(self._keep, run_id, token, wait)

    async def _keep(self, run: _JetStreamRun, token: str, wait: float) -> None:
        async with run.wake_ups("end") as ended:
            state = await self._producer_state(run, token)
            if state.ended_by is None:
                await run.renew_lease()
                if await receives_message(ended, wait):
                    await self._producer_state(run, token)

    async def _producer_state(self, run: _JetStreamRun, token: str) -> _LogMessage:
        """Returns the state of a run; raises unless the producer with this token may write."""
        try:
            state = await run.state()
            if state.token != token:
                raise FencedError(run.id)
            if state.ended_by == _STOPPER:
                raise StoppedError
        except (UnknownRunError, FencedError, StoppedError):
            self._states.pop(token, None)  # nothing more is written with this token
            raise
        return state

    def stop(self, run_id: str) -> None:
        OutageRetry(self.outage)(lambda: self._call(self._stop, run_id))

    async def _stop(self, run: _JetStreamRun) -> None:
        state = await run.state()
        if state.ended_by is None:
            await run.write(state, state.token, state.last, [STOPPED_ENDING], _STOPPER)

    # reading

    def read(self, run_id: str, after: int, wait: float) -> Page:
        return self._call(self._read, run_id, after, wait)

    async def _read(self, run: _JetStreamRun, after: int, wait: float) -> Page:
        async with run.wake_ups("bell") as written:
            page = await self._page(run, after)
            if page is None and await receives_message(written, wait):
                page = await self._page(run, after)
        return page or await self._page_without_items(run, after)

    async def _page(self, run: _JetStreamRun, after: int) -> Page | None:
        """Returns what follows the item with this number, or None if nothing does."""
        sequence = self._positions.get((run.id, after), 1)
        while messages := await run.messages_from(sequence):
            for message in messages:
                self._positions[run.id, message.last] = message.sequence + 1
            while len(self._positions) > _MAX_POSITIONS:
                self._positions.popitem(last=False)
            sequence = messages[-1].sequence + 1
            new = [each for each in messages if (each.last > after and each.items) or each.ended_by]
            if new:
                first = max(new[0].first, after + 1)
                items = [item for each in new for item in each.items]
                return Page(first, items[first - new[0].first :], new[-1].ending)
        return None

    async def _page_without_items(self, run: _JetStreamRun, after: int) -> Page:
        state = await run.state()
        if state.ended_by is not None and after >= state.last:
            return Page(after + 1, (), state.ending)
        heartbeat = await run.last_message("beat")
        return Page(after + 1, (), None, heartbeat.sequence if heartbeat else 0)
