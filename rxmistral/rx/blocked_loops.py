"""Event loops that are blocked by a wait for an answer that they read themselves.

Within a `with` block, a coroutine may block its event loop until another thread has read the
answer. If the loop reads the socket, both would wait forever. So that thread asks the loop now and
then to show that it turns. If it does not, what it reads is handed over to another thread. A loop
that was only slow loses nothing by that.
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
"""By event loop, the function that hands over what it reads; called on another thread."""


class BlockedLoopCheck:
    """Checks whether an event loop turns; called now and then by a thread that waits for it."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._asked_at: float | None = None  # None: it has turned since

    def __call__(self) -> None:
        now = monotonic()
        if self._asked_at is None:
            self._asked_at = now
            with suppress(RuntimeError):  # closed: it reads nothing
                self._loop.call_soon_threadsafe(self._note_turn)
        elif now - self._asked_at >= _BLOCKED_SECONDS and self._loop in hand_over_from:
            self._asked_at = now
            hand_over_from[self._loop]()

    def _note_turn(self) -> None:
        self._asked_at = None
