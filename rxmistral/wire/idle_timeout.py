"""The timeouts of a reader: how long it may wait for the network.

Only waiting is measured: from `start_wait` to `end_wait`, while the reader is blocked on the
network. The time in between belongs to the subscriber, and is not silence of the server. So
nothing counts down: before each wait on a socket the reader asks how long it may wait.
"""

from __future__ import annotations

from collections.abc import Callable

from ..rx.clock import monotonic

__all__ = ["IdleTimeout"]


class IdleTimeout:
    """A timeout that begins anew with each wait.

    Args:
        connect_timeout: Seconds for establishing a connection, TLS included.
        read_timeout: Seconds for any other wait.
        now: Returns the current time, in seconds.

    Attributes:
        in_grace_period: Whether `start_grace_period()` was called.
        now: Returns the current time, in seconds.
        on_grace_period: Called when the grace period starts; None: nothing is called.
    """

    def __init__(
        self, connect_timeout: float, read_timeout: float, now: Callable[[], float] = monotonic
    ) -> None:
        self.connect_timeout = connect_timeout
        self.in_grace_period = False
        self.on_grace_period: Callable[[], object] | None = None
        self._read_timeout = read_timeout
        self.now = now
        self._began = 0.0

    def start_grace_period(self) -> None:
        """Notes that the rest of the body is not needed, but may arrive soon.

        A reader whose subscriber leaves then reads on for a moment, so that its connection can
        be used again.
        """
        if not self.in_grace_period:
            self.in_grace_period = True
            if self.on_grace_period is not None:
                self.on_grace_period()

    def start_wait(self) -> bool:
        """Begins a wait; returns whether it may end earlier than the previous one would have."""
        self._began = self.now()
        return False

    def restart_wait(self) -> None:
        """Begins the current wait anew: until now, it was paused."""
        self._began = self.now()

    def end_wait(self) -> None:
        """Notes that the wait is over, successful or not."""

    def elapsed(self) -> float:
        """Returns the seconds since the wait began."""
        return self.now() - self._began

    def remaining(self) -> float:
        """Returns the seconds that this wait may still last; 0 or less: it has timed out."""
        return self._read_timeout - self.elapsed()

    def expired(self) -> tuple[str, float]:
        """Returns the name of the timeout that expired, and its seconds."""
        return "gap", self._read_timeout
