"""Connections that are about to return to their sessions.

An answer is often left in the moment in which it is whole, a few milliseconds before its
body ends; and the next request often follows at once. Until the connection has returned
there is no idle one, and a new one would cost a handshake of TCP and one of TLS. So a
request without an idle connection waits for one that is about to return.
"""

from __future__ import annotations

from threading import Condition
from typing import Any
from weakref import WeakKeyDictionary

from ..rx.threads import fork_safe, register_for_fork

__all__ = ["PendingReturns"]


class PendingReturns:
    """Counts, for each session, the connections that are about to return to it."""

    def __init__(self) -> None:
        self._changed = fork_safe(Condition())
        self.forked()
        register_for_fork(self)

    def forked(self) -> None:
        """Expects none: the connections are the parent's."""
        self._expected: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._returned: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def expect(self, session: object) -> None:
        """One of its connections is about to return."""
        with self._changed:
            self._expected[session] = self._expected.get(session, 0) + 1

    def returned(self, session: object) -> None:
        """One that was expected is there, or is closed."""
        with self._changed:
            self._expected[session] = max(0, self._expected.get(session, 0) - 1)
            self._returned[session] = self._returned.get(session, 0) + 1
            self._changed.notify_all()

    def wait(self, session: object, seconds: float) -> None:
        """Until one has returned, if one is expected."""
        with self._changed:
            before = self._returned.get(session)
            if self._expected.get(session):
                self._changed.wait_for(lambda: self._returned.get(session) != before, seconds)
