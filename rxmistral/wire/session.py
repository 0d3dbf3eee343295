"""Sessions of requests: our own, views of any session that send our requests, and their pools.

A request of ours must be cancellable while urllib3 works on it, and must respect its timeouts
while it waits for a connection of a full pool, and while it pauses between the attempts of an
adapter's `max_retries`. So the pool has to lease its connections (see `connection`), and
those waits have to be ours. But the session may be the user's, which sends other requests at
the same time.

Strategy: nothing of the user's is changed. A *view* is an object that shares all attributes (the
`__dict__`) of another object, and whose class is a subclass of that object's class:

    view of the session ──▶ view of its adapter ──▶ view of its pool ──▶ view of a connection
       get_adapter()         get_connection_...()     urlopen(), _get_conn(), _put_conn()

Cookies, idle connections and counters are the originals'. The pool gets the original of a
connection back. `_get_conn` and `_put_conn` are methods that urllib3 has for its subclasses
(tested with 2.2 and 2.8).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from threading import Condition, RLock
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary, WeakSet

from requests import PreparedRequest, Request, Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, Retry, Timeout
from urllib3.exceptions import EmptyPoolError, ReadTimeoutError

from ..rx.clock import monotonic, sleep
from ..rx.threads import fork_safe, register_for_fork
from .connection import ConnectionView, sending

__all__ = ["drop_idle_connections_on_fork", "open_session", "pending_returns", "view_of"]

T = TypeVar("T")

_POOL_SIZE = 128  # idle connections kept for each host
_POLL_SECONDS = 0.05  # between two checks in a wait that nothing can interrupt


# --- our own sessions ------------------------------------------------------------


def open_session() -> Session:
    """Returns a session whose pools keep the connections of many streams at once."""
    session = _Session()
    adapter = _Adapter(pool_maxsize=_POOL_SIZE)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _Session(Session):
    """A session with headers and cookies, and without any other settings."""

    proxies: Any

    def __init__(self) -> None:
        super().__init__()
        self.proxies = None  # so that there is nothing to merge

    def prepare_request(self, request: Request) -> PreparedRequest:
        headers = {**self.headers, **request.headers}
        if not request.auth or request.cookies or None in headers.values():
            return super().prepare_request(request)
        # As requests does, but nothing is merged: merging settings that do not exist takes as long
        # as all the rest (tested with requests 2.34).
        prepared = PreparedRequest()
        prepared.prepare(
            method=request.method,
            url=request.url,
            headers=headers,
            files=request.files,
            data=request.data,
            params=request.params or None,
            auth=request.auth,
            cookies=self.cookies.copy(),
            hooks=request.hooks,
            json=request.json,
        )
        return prepared


class _Adapter(HTTPAdapter):
    def close(self) -> None:
        # requests leaves this to the garbage collection of the pools, and a response or an
        # error that the program keeps also keeps its pool.
        for pool in _pools_of(self):
            pool.close()
        super().close()


# --- views -----------------------------------------------------------------------


def view_of(session: Session) -> Session:
    """Returns a view of a session, whose requests use the lease of their thread."""
    return _view(_SessionView, session)


def _view(kind: type, original: T) -> T:
    base: Any = type(original)
    view: Any = object.__new__(_view_class(kind, base))
    # Not by setattr(), which the class of the original may have overridden.
    object.__setattr__(view, "__dict__", original.__dict__)
    # A pool closes its idle connections when the last reference to it is gone.
    object.__setattr__(view, "_original", original)
    return cast(T, view)


@lru_cache(64)
def _view_class(kind: type, base: type) -> type:
    # `_original` is a slot, since all other attributes are the original's.
    return type(base.__name__, (kind, base), {"__slots__": ("_original",)})


class _SessionView:
    def get_adapter(self, url: str) -> Any:
        adapter = super().get_adapter(url)  # type: ignore[misc]  # of the class it is mixed into
        # A request of any other adapter can be cancelled only between two blocks.
        return _view(_AdapterView, adapter) if isinstance(adapter, HTTPAdapter) else adapter


class _AdapterView:
    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **options)  # type: ignore[misc]
        return _view(_PoolView, pool) if isinstance(pool, HTTPConnectionPool) else pool


class _PoolView:
    def urlopen(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Any = None,
        retries: Any = None,
        *args: Any,
        **options: Any,
    ) -> Any:
        """Sends one request, and calls itself for each attempt of the adapter's retries."""
        lease = sending.lease
        if lease is not None:
            lease.check()
            idle_timeout = lease.idle_timeout
            remaining = idle_timeout.remaining()
            if remaining <= 0:
                raise ReadTimeoutError(self, url, "no time is left")  # type: ignore[arg-type]
            options["timeout"] = Timeout(
                connect=min(idle_timeout.connect_timeout, remaining), read=remaining
            )
            if isinstance(retries, Retry) and not isinstance(retries, _RetryView):
                retries = _view(_RetryView, retries)
        return super().urlopen(method, url, body, headers, retries, *args, **options)  # type: ignore[misc]

    def _get_conn(self, timeout: float | None = None) -> Any:
        lease = sending.lease
        if lease is None:
            return _view(ConnectionView, super()._get_conn(timeout))  # type: ignore[misc]
        while True:
            try:
                return _view(ConnectionView, super()._get_conn(_POLL_SECONDS))  # type: ignore[misc]
            except EmptyPoolError:
                # No other error may be raised here: urllib3 would put a connection back.
                if lease.cancelled or lease.idle_timeout.remaining() <= 0:
                    raise

    def _put_conn(self, connection: Any) -> None:
        if connection is not None:  # None: frees a place in the pool
            connection = connection.end_lease()
            if connection is None:
                return
        super()._put_conn(connection)  # type: ignore[misc]


class _RetryView:
    def sleep(self, response: Any = None) -> None:
        """Pauses for as long as its class would, but not beyond the idle timeout."""
        retry: Any = self
        lease = sending.lease
        if lease is None:
            super().sleep(response)  # type: ignore[misc]
            return
        asked = retry.respect_retry_after_header and response and retry.get_retry_after(response)
        seconds = min(asked or retry.get_backoff_time(), lease.idle_timeout.remaining())
        end = monotonic() + seconds
        while (remaining := end - monotonic()) > 0:
            sleep(min(remaining, _POLL_SECONDS))
            lease.check()


# --- their pools -----------------------------------------------------------------


class _PendingReturns:
    """A count, for each session, of the connections that are about to return to its pools.

    An answer is often left at the moment at which it is complete, a few milliseconds before
    its body ends, and often the next request follows at once. Until the connection has
    returned there is no idle one, and a new one costs a TCP and a TLS handshake. So a request
    without an idle connection first waits for one that is about to return.
    """

    def __init__(self) -> None:
        self._changed = fork_safe(Condition())
        self.forked()
        register_for_fork(self)

    def forked(self) -> None:
        self._expected: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._returned: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def expect(self, session: object) -> None:
        with self._changed:
            self._expected[session] = self._expected.get(session, 0) + 1

    def is_expected(self, session: object) -> bool:
        return bool(self._expected.get(session))

    def note_return(self, session: object) -> None:
        """Notes that an expected connection has returned, or is closed."""
        with self._changed:
            self._expected[session] = max(0, self._expected.get(session, 0) - 1)
            self._returned[session] = self._returned.get(session, 0) + 1
            self._changed.notify_all()

    def wait(self, session: object, seconds: float) -> None:
        """Waits at most this long until a connection has returned, if one is expected."""
        with self._changed:
            before = self._returned.get(session)
            if self._expected.get(session):
                self._changed.wait_for(lambda: self._returned.get(session) != before, seconds)


pending_returns = _PendingReturns()


class _ForkedSessions:
    """The sessions whose idle connections the child of a fork drops, as it has copies of them.

    Whatever the child sent over them would reach the parent's server, so it closes its
    descriptors, and begins with empty pools.
    """

    def __init__(self) -> None:
        self._sessions: WeakSet[Any] = WeakSet()
        self._is_child = False
        register_for_fork(self)

    def add(self, session: Any) -> None:
        if session not in self._sessions:
            if self._is_child:  # it may have been used before the fork
                _drop_idle_connections(session)
            self._sessions.add(session)

    def forked(self) -> None:
        self._is_child = True
        for session in list(self._sessions):
            # http.cookiejar's own lock, which each request acquires.
            if hasattr(session.cookies, "_cookies_lock"):
                session.cookies._cookies_lock = RLock()
            _drop_idle_connections(session)


drop_idle_connections_on_fork = _ForkedSessions().add


def _drop_idle_connections(session: Any) -> None:
    for adapter in session.adapters.values():
        if not hasattr(adapter, "poolmanager"):
            continue  # not requests' own: nothing is known of its connections
        for manager in _managers_of(adapter):
            manager.pools.lock = RLock()
        for pool in _pools_of(adapter):
            old = pool.pool
            if old is None:  # closed
                continue
            new = type(old)(old.maxsize)  # with a new lock, and all places free
            for _ in range(old.maxsize):
                new.put(None)
            pool.pool = new
            for idle in list(old.queue):
                if idle is not None:
                    idle.close()  # the descriptor only, without a TLS close_notify


def _managers_of(adapter: Any) -> list[Any]:
    return [adapter.poolmanager, *adapter.proxy_manager.values()]


def _pools_of(adapter: Any) -> Iterator[Any]:
    for manager in _managers_of(adapter):
        for key in manager.pools.keys():  # noqa: SIM118  # it cannot be iterated
            pool = manager.pools.get(key)
            if pool is not None:
                yield pool
