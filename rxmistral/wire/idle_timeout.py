"""How long a reader may wait.

What is measured is waiting: from `begin` to `end`, while the reader asks the network for
something. The time in between is its subscriber's, and is no silence of the server. So
there is no timer: who waits is told, before each wait on a socket, how long that may be.
"""

from __future__ import annotations

from collections.abc import Callable

from ..rx.clock import monotonic

__all__ = ["IdleTimeout"]


class IdleTimeout:
    """The same for every wait.

    Args:
        connect: Seconds for a connection, TLS included.
        read: Seconds for anything else.
        now: Tells the time, in seconds.
    """

    def __init__(self, connect: float, read: float, now: Callable[[], float] = monotonic) -> None:
        self.connect = connect
        self._read = read
        self._now = now
        self._began = 0.0
        self.winding_up = False
        self.on_wind_up: Callable[[], object] | None = None

    def wind_up(self) -> None:
        """What is left of the body is of no interest, and has only a moment to come: a
        reader that is left reads on, so that the connection can be used again."""
        if not self.winding_up:
            self.winding_up = True
            if self.on_wind_up is not None:
                self.on_wind_up()

    def start_wait(self) -> None:
        """The reader begins to wait."""
        self._began = self._now()

    def end_wait(self) -> None:
        """The reader has what it waited for, or has waited in vain."""

    def elapsed(self) -> float:
        """Seconds since it began to wait."""
        return self._now() - self._began

    def remaining(self) -> float:
        """Seconds that it may still wait; 0 or less if it has waited long enough."""
        return self._read - self.elapsed()

    def expired(self) -> tuple[str, float]:
        """The name of the clock that ran out, and how many seconds it gave."""
        return "gap", self._read
