"""A log in Redis Streams; requires `pip install rxmistral[redis]`, and Redis 6.2.

A run has three keys, in one slot of a cluster:

    name:{run}:items     a stream; item n has the id n-0, the ending has the next id
    name:{run}:state     a hash: owner, last, until (the end of its lease), signs (heartbeats),
                         ender, ending
    name:{run}:ended     a stream that has one entry as soon as the run has ended

Scripts change a run, so that checking its state and writing are one atomic step. Readers block
on the items, the producer blocks on the stream that reports the end. All times are by the
clock of Redis. Keys and fields keep their names, so that processes of different versions can
share a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import FencedError, LogError, LogUnavailableError, StoppedError, UnknownRunError
from .encoding import STOPPED_ENDING
from .run_log import BrokerLog, Lines, OutageRetry, Page, check_run_id, quote_run_id

__all__ = ["RedisLog"]

_PAGE_ITEMS = 512
_ANSWER_TIMEOUT_SECONDS = 5.0  # of Redis, for one call
_MAX_BLOCK_SECONDS = 2.0  # of those, for which a call may block until an entry arrives

# Errors that only a cluster raises: ASK and MOVED, CLUSTERDOWN, TRYAGAIN, CROSSSLOT.
_CLUSTER_ERRORS = (
    exceptions.AskError,
    exceptions.ClusterError,
    exceptions.TryAgainError,
    exceptions.ClusterCrossSlotError,
)

# --- the scripts -----------------------------------------------------------------

_COMMON = """
local items, state, ended = unpack(KEYS)
local owner, last, lease_end, ender =
    unpack(redis.call('HMGET', state, 'owner', 'last', 'until', 'ender'))
last = tonumber(last or 0)

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function set_expiry(ttl)
    for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
end
local function add(number, kind, value)
    redis.call('XADD', items, string.format('%.0f-0', number), kind, value)
end
local function renew_lease(lease, ttl)
    redis.call('HSET', state, 'until', now() + lease)
    redis.call('HINCRBY', state, 'signs', 1)
    set_expiry(ttl)
    return 'ok'
end
local function finish(by, ending)
    add(last + 1, 'ending', ending)
    redis.call('HSET', state, 'ender', by, 'ending', ending)
    redis.call('XADD', ended, '1-0', 'by', by)
end
local function refusal(token)
    if not owner then return 'unknown' end
    if owner ~= token then return 'fenced' end
    if ender == 'stop' then return 'stopped' end
end
"""

_BEGIN = """
local token, after, lease, ttl = unpack(ARGV)
if owner == token then return 'ok' end
if ender or last ~= tonumber(after) or (owner and now() < tonumber(lease_end)) then
    return 'fenced'
end
redis.call('HSET', state, 'owner', token, 'last', after)
return renew_lease(lease, ttl)
"""

_APPEND = """
local token, lease, ttl, max_items, first, ending = unpack(ARGV)
local refused = refusal(token)
if refused then return refused end
if ender then return 'ok' end
if tonumber(first) > last + 1 then return 'gap' end
for index = last + 1 - first + 7, #ARGV do
    last = last + 1
    add(last, 'item', ARGV[index])
end
redis.call('XTRIM', items, 'MAXLEN', max_items)
redis.call('HSET', state, 'last', last, 'until', now() + lease)
if ending ~= '' then finish(token, ending) end
set_expiry(ttl)
return 'ok'
"""

_KEEP = """
local token, lease, ttl = unpack(ARGV)
return refusal(token) or renew_lease(lease, ttl)
"""

_STOP = """
local ending, ttl = unpack(ARGV)
if not owner then return 'unknown' end
if not ender then
    finish('stop', ending)
    set_expiry(ttl)
end
return 'ok'
"""


class RedisLog(BrokerLog):
    """A `RunLog` in Redis Streams, for any number of processes.

    Close it, or use it in a `with` block, when it is no longer needed.

    The configuration of Redis determines what survives a crash of Redis itself: `appendonly
    yes` with `appendfsync always` loses nothing, `everysec` loses up to a second. After a
    loss, the producer gets `LogError`; readers never see a gap.

    Args:
        url: The address of Redis: `redis://`, `rediss://` or `unix://`, in the format of
            redis-py. A single Redis, with or without replicas; a Redis Cluster is refused
            with `LogError`.
        name: The prefix of the keys. Letters, digits, - and _.
        ttl: Seconds that a run is stored after its last heartbeat.
        max_items: How many items of a run are stored, the last ones; for an earlier one a
            reader gets `LaggedError`.
        lease: Seconds without a heartbeat after which a producer is considered dead.
        outage: Seconds for which Redis may be unreachable; writing and reading then continue.
    """

    def __init__(
        self,
        url: str = "redis://localhost:6379",
        *,
        name: str = "rxmistral",
        ttl: float = 3600.0,
        max_items: int = 100_000,
        lease: float = 10.0,
        outage: float = 30.0,
    ) -> None:
        super().__init__(name, ttl, max_items, lease, outage)
        self._closed = False
        self._lease_ms, self._ttl_ms = (str(int(seconds * 1000)) for seconds in (lease, ttl))
        # Any: redis-py annotates a result with every type that it has ever had.
        self._redis: Any = redis.Redis.from_url(
            url,
            protocol=2,
            decode_responses=False,
            socket_timeout=_ANSWER_TIMEOUT_SECONDS,
            socket_connect_timeout=_ANSWER_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._begin, self._append, self._keep, self._stop = (
            self._redis.register_script(_COMMON + script)
            for script in (_BEGIN, _APPEND, _KEEP, _STOP)
        )

    def begin(self, run_id: str, token: str, after: int = 0) -> None:
        self._run_script(self._begin, run_id, token, after, self._lease_ms, self._ttl_ms)

    def append(
        self, run_id: str, token: str, first: int, items: Lines, ending: bytes | None = None
    ) -> None:
        bounds = (self._lease_ms, self._ttl_ms, self._max_items)
        self._run_script(self._append, run_id, token, *bounds, first, ending or b"", *items)

    def keep(self, run_id: str, token: str, wait: float) -> None:
        heartbeat = (self._keep, run_id, token, self._lease_ms, self._ttl_ms)
        self._run_script(*heartbeat)
        if self._read_stream(self._keys(run_id)[2], 0, wait):
            self._run_script(*heartbeat)  # raises the reason

    def read(self, run_id: str, after: int, wait: float) -> Page:
        items, state, _ = self._keys(run_id)
        entries = self._read_stream(items, after, wait)
        if not entries:
            return self._page_without_items(run_id, state, after)
        first = int(entries[0][0].split(b"-")[0])
        lines = [fields[b"item"] for _, fields in entries if b"item" in fields]
        return Page(first, lines, entries[-1][1].get(b"ending"))

    def _page_without_items(self, run_id: str, state: str, after: int) -> Page:
        with self._translated_errors():
            heartbeats, last, ending = self._redis.hmget(state, "signs", "last", "ending")
        if heartbeats is None:
            raise UnknownRunError(run_id)
        if int(last or 0) > after:  # an item was written since the read
            return Page(after + 1, (), None, int(heartbeats))
        return Page(after + 1, (), ending, int(heartbeats))

    def stop(self, run_id: str) -> None:
        arguments = (self._stop, run_id, STOPPED_ENDING, self._ttl_ms)
        OutageRetry(self.outage)(lambda: self._run_script(*arguments))

    def close(self) -> None:
        self._closed = True
        self._close_idle_connections()

    def _close_idle_connections(self) -> None:
        # A call that blocks on a connection closes it itself.
        self._redis.connection_pool.disconnect(inuse_connections=False)

    def _keys(self, run_id: str) -> list[str]:
        check_run_id(run_id)
        prefix = f"{self._name}:{{{quote_run_id(run_id)}}}"
        return [f"{prefix}:items", f"{prefix}:state", f"{prefix}:ended"]

    def _run_script(
        self, script: Callable[..., Any], run_id: str, *args: str | bytes | int
    ) -> None:
        keys = self._keys(run_id)
        with self._translated_errors():
            result = script(keys=keys, args=args)
        match result:
            case b"fenced":
                raise FencedError(run_id)
            case b"stopped":
                raise StoppedError
            case b"unknown":
                raise UnknownRunError(run_id)
            case b"gap":
                raise LogError("Redis has lost items that it had accepted")

    def _read_stream(
        self, stream: str, after: int, wait: float
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        block_ms = max(1, int(min(wait, _MAX_BLOCK_SECONDS) * 1000))
        with self._translated_errors():
            streams = self._redis.xread({stream: f"{after}-0"}, count=_PAGE_ITEMS, block=block_ms)
        entries: list[tuple[bytes, dict[bytes, bytes]]] = streams[0][1] if streams else []
        return entries

    def _check_open(self) -> None:
        if self._closed:
            raise LogError("the log is closed")

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        self._check_open()
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError) as error:
            raise LogUnavailableError(str(error), 0.0) from error
        except _CLUSTER_ERRORS as error:
            raise LogError(
                "url is that of a node of a Redis Cluster, which is not supported: "
                "give the url of a single Redis, with or without replicas"
            ) from error
        except redis.RedisError as error:
            raise LogError(str(error)) from error
        finally:
            if self._closed:  # during the call
                self._close_idle_connections()
