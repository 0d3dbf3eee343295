"""The pools of a requests session: their idle connections, and those that are about to return.

An answer is often left at the moment at which it is complete, a few milliseconds before its
body ends, and often the next request follows at once. Until the connection has returned
there is no idle one, and a new one costs a TCP and a TLS handshake. So a request without an
idle connection first waits for one that is about to return (`PendingReturns`).

The child of a fork has copies of the idle connections. Whatever it sent over them would reach
the parent's server, so it closes its descriptors, and begins with empty pools.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Condition, RLock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from ..rx.threads import fork_safe, register_for_fork

__all__ = ["PendingReturns", "drop_idle_connections_on_fork", "pools_of"]


def pools_of(adapter: Any) -> Iterator[Any]:
    """Yields the urllib3 pools of a requests adapter, those of its proxies included."""
    for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
        for key in manager.pools.keys():  # noqa: SIM118  # it cannot be iterated
            pool = manager.pools.get(key)
            if pool is not None:
                yield pool


class PendingReturns:
    """Counts, for each session, the connections that are about to return to its pools."""

    def __init__(self) -> None:
        self._changed = fork_safe(Condition())
        self.forked()
        register_for_fork(self)

    def forked(self) -> None:
        """Expects no connections: those are the parent's."""
        self._expected: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._returned: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def expect(self, session: object) -> None:
        """Notes that a connection of the session is about to return."""
        with self._changed:
            self._expected[session] = self._expected.get(session, 0) + 1

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


class _ForkedSessions:
    """The sessions whose connections the child of a fork would share with its parent."""

    def __init__(self) -> None:
        self.sessions: WeakSet[Any] = WeakSet()
        self.is_child = False
        register_for_fork(self)

    def forked(self) -> None:
        self.is_child = True
        for session in list(self.sessions):
            # http.cookiejar's own lock, which each request acquires.
            if hasattr(session.cookies, "_cookies_lock"):
                session.cookies._cookies_lock = RLock()
            _drop_idle_connections(session)


_forked_sessions = _ForkedSessions()


def drop_idle_connections_on_fork(session: Any) -> None:
    """Has the child of a fork drop the idle connections of a requests session."""
    if session not in _forked_sessions.sessions:
        if _forked_sessions.is_child:  # it may have been used before the fork
            _drop_idle_connections(session)
        _forked_sessions.sessions.add(session)


def _drop_idle_connections(session: Any) -> None:
    for adapter in session.adapters.values():
        if not hasattr(adapter, "poolmanager"):
            continue  # not requests' own: nothing is known of its connections
        for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
            manager.pools.lock = RLock()
        for pool in pools_of(adapter):
            if pool.pool is not None:
                _replace_queue(pool)


def _replace_queue(pool: Any) -> None:
    """Replaces the queue of a pool by one with a new lock and with all places free."""
    old = pool.pool
    new = type(old)(old.maxsize)
    for _ in range(old.maxsize):
        new.put(None)
    pool.pool = new
    for idle in list(old.queue):
        if idle is not None:
            idle.close()  # the descriptor only, without a TLS close_notify
