"""Event loops that are blocked by a wait for an answer that they read themselves.

Within a `with` block, a coroutine may block its event loop until another thread has read the
answer. If the loop reads the socket, both would wait forever. So the other thread regularly
schedules a callback on the loop. If the loop does not run it, its sockets are handed over to a
background loop. A loop that was only slow loses nothing by that.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary

from .clock import monotonic

__all__ = ["BlockedLoopCheck", "hand_over_from"]

_BLOCKED_SECONDS = 1.0

hand_over_from: WeakKeyDictionary[AbstractEventLoop, Callable[[], object]] = WeakKeyDictionary()
"""By event loop, the function that hands over its sockets; called on another thread."""


class BlockedLoopCheck:
    """A check whether an event loop is blocked; called regularly by a thread that waits for it."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._asked_at: float | None = None  # None: the loop has run the callback

    def __call__(self) -> None:
        now = monotonic()
        if self._asked_at is None:
            self._asked_at = now
            with suppress(RuntimeError):  # a closed loop reads nothing
                self._loop.call_soon_threadsafe(self._note_run)
        elif now - self._asked_at >= _BLOCKED_SECONDS and self._loop in hand_over_from:
            self._asked_at = now
            hand_over_from[self._loop]()

    def _note_run(self) -> None:
        self._asked_at = None
