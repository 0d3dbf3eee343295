"""A log in Redis Streams; it needs `pip install rxmistral[redis]`, and a Redis 6.2.

Of one run there are three keys, in one slot of a cluster:

    name:{run}:items     a stream; the item n has the id n-0, the ending the next one
    name:{run}:state     a hash: owner, last, until (its lease), signs, ender, ending
    name:{run}:ended     a stream with one entry as soon as it has ended

What changes a run is a script, so that looking at the state and writing are one thing. A
reader waits at the items, a producer at what says that the run has ended. The time is
Redis's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import FencedError, LogError, LogUnavailableError, StoppedError, UnknownRunError
from .encoding import STOPPED
from .outage import OutageRetry
from .run_log import Page, check_bounds, check_name, check_run_id, name_of

__all__ = ["RedisLog"]

_PAGE = 512  # items
_ANSWER = 5.0  # seconds that a call may take
_WAIT = 2.0  # seconds of it that it may wait for something to come

# What only a cluster answers: ASK and MOVED, CLUSTERDOWN, TRYAGAIN, CROSSSLOT.
_OF_CLUSTERS = (
    exceptions.AskError,
    exceptions.ClusterError,
    exceptions.TryAgainError,
    exceptions.ClusterCrossSlotError,
)

# --- the scripts -----------------------------------------------------------------

_COMMON = """
local items, state, ended = unpack(KEYS)
local owner, last, lapses, ender =
    unpack(redis.call('HMGET', state, 'owner', 'last', 'until', 'ender'))
last = tonumber(last or 0)

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function retain(ttl)
    for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
end
local function add(number, kind, value)
    redis.call('XADD', items, string.format('%.0f-0', number), kind, value)
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
if ender or last ~= tonumber(after) or (owner and now() < tonumber(lapses)) then
    return 'fenced'
end
redis.call('HSET', state, 'owner', token, 'last', after, 'until', now() + lease)
redis.call('HINCRBY', state, 'signs', 1)
retain(ttl)
return 'ok'
"""

_APPEND = """
local token, lease, ttl, max_items, first, ending = unpack(ARGV)
local refused = refusal(token)
if refused then return refused end
if ender then return 'ok' end
if tonumber(first) > last + 1 then return 'gap' end
for at = last + 1 - first + 7, #ARGV do
    last = last + 1
    add(last, 'item', ARGV[at])
end
redis.call('XTRIM', items, 'MAXLEN', max_items)
redis.call('HSET', state, 'last', last, 'until', now() + lease)
if ending ~= '' then finish(token, ending) end
retain(ttl)
return 'ok'
"""

_KEEP = """
local token, lease, ttl = unpack(ARGV)
local refused = refusal(token)
if refused then return refused end
redis.call('HSET', state, 'until', now() + lease)
redis.call('HINCRBY', state, 'signs', 1)
retain(ttl)
return 'ok'
"""

_STOP = """
local ending, ttl = unpack(ARGV)
if not owner then return 'unknown' end
if not ender then
    finish('stop', ending)
    retain(ttl)
end
return 'ok'
"""


class RedisLog:
    """A `RunLog` in Redis Streams, for any number of processes.

    How safe a run is from a crash of Redis itself is for its configuration to say:
    `appendonly yes` with `appendfsync always` loses nothing, `everysec` up to a second.
    Where something was lost, the producer gets `LogError`; readers never see a gap.

    Args:
        url: Where Redis is: `redis://`, `rediss://` or `unix://`, as redis-py has it. A
            single Redis, with or without replicas; a Redis Cluster is refused with
            `LogError`.
        name: What the keys begin with.
        ttl: Seconds that a run is kept after its last sign of life.
        max_items: How many of a run's items are kept, the last ones; who reads from an
            earlier one gets `LaggedError`.
        lease: Seconds without a sign of life after which a producer counts as dead.
        outage: Seconds that Redis may be away; what is written and read goes on then.

    Close it, or use it in a `with` block, when it is not needed any more.
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
        check_name(name)
        check_bounds(ttl, max_items, lease, outage)
        self.lease = lease
        self.outage = outage
        self._name = name
        self._max_items = max_items
        self._closed = False
        self._lease, self._ttl = (str(int(seconds * 1000)) for seconds in (lease, ttl))
        # Any: what redis-py says of its results is every type that they ever had.
        self._redis: Any = redis.Redis.from_url(
            url,
            protocol=2,
            decode_responses=False,
            socket_timeout=_ANSWER,
            socket_connect_timeout=_ANSWER,
            retry=Retry(NoBackoff(), 0),
        )
        self._begin, self._append, self._keep, self._stop = (
            self._redis.register_script(_COMMON + script)
            for script in (_BEGIN, _APPEND, _KEEP, _STOP)
        )

    def begin(self, run_id: str, token: str, after: int = 0) -> None:
        self._run(self._begin, run_id, token, after, self._lease, self._ttl)

    def append(
        self,
        run_id: str,
        token: str,
        first: int,
        items: Sequence[bytes],
        ending: bytes | None = None,
    ) -> None:
        bounds = (self._lease, self._ttl, self._max_items)
        self._run(self._append, run_id, token, *bounds, first, ending or b"", *items)

    def keep(self, run_id: str, token: str, wait: float) -> None:
        sign = (self._keep, run_id, token, self._lease, self._ttl)
        self._run(*sign)
        if self._wait_for(self._keys(run_id)[2], 0, wait):
            self._run(*sign)  # which says why

    def read(self, run_id: str, after: int, wait: float) -> Page:
        items, state, _ = self._keys(run_id)
        entries = self._wait_for(items, after, wait)
        if not entries:
            return self._page_without_items(run_id, state, after)
        _, last = entries[-1]
        return Page(
            int(entries[0][0].split(b"-")[0]),
            [fields[b"item"] for _, fields in entries if b"item" in fields],
            last.get(b"ending"),
        )

    def _page_without_items(self, run_id: str, state: str, after: int) -> Page:
        with self._talking():
            signs, last, ending = self._redis.hmget(state, "signs", "last", "ending")
        if signs is None:
            raise UnknownRunError(run_id)
        if int(last or 0) > after:  # it came just now
            return Page(after + 1, (), None, int(signs))
        return Page(after + 1, (), ending, int(signs))

    def stop(self, run_id: str) -> None:
        retry_outage = OutageRetry(self.outage)
        retry_outage(lambda: self._run(self._stop, run_id, STOPPED, self._ttl))

    def close(self) -> None:
        self._closed = True
        self._close_idle_connections()

    def _close_idle_connections(self) -> None:
        """Not those that somebody waits at: he does it when he has waited."""
        self._redis.connection_pool.disconnect(inuse_connections=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _keys(self, run_id: str) -> list[str]:
        check_run_id(run_id)
        return [f"{self._name}:{{{name_of(run_id)}}}:{of}" for of in ("items", "state", "ended")]

    def _run(self, script: Callable[..., Any], run_id: str, *args: str | bytes | int) -> None:
        keys = self._keys(run_id)
        with self._talking():
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

    def _wait_for(
        self, stream: str, after: int, wait: float
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """The entries of a stream after this one."""
        block = max(1, int(min(wait, _WAIT) * 1000))
        with self._talking():
            found = self._redis.xread({stream: f"{after}-0"}, count=_PAGE, block=block)
        entries: list[tuple[bytes, dict[bytes, bytes]]] = found[0][1] if found else []
        return entries

    def _check_open(self) -> None:
        if self._closed:
            raise LogError("it is closed")

    @contextmanager
    def _talking(self) -> Iterator[None]:
        self._check_open()
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError) as error:
            raise LogUnavailableError(str(error), 0.0) from error
        except _OF_CLUSTERS as error:
            raise LogError(
                "url is that of a node of a Redis Cluster, which is not supported: "
                "give the url of a single Redis, with or without replicas"
            ) from error
        except redis.RedisError as error:
            raise LogError(str(error)) from error
        finally:
            if self._closed:  # meanwhile
                self._close_idle_connections()
