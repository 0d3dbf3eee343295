"""Cancellation: any thread tells one other thread to stop its work, or its waiting."""

from __future__ import annotations

import math
from threading import Event

from .clock import monotonic

__all__ = ["Cancellation", "Cancelled"]


class Cancelled(BaseException):  # nothing went wrong
    """Raised on the thread that was cancelled.

    A BaseException, so that no `except Exception` on the way out catches it, such as that of
    an adapter in the program.
    """


class Cancellation:
    """Whether a thread was told to stop, and what it waits with until then.

    One thread works and waits; any other may call `cancel` and `wake`, which never block.

    Attributes:
        cancelled: Whether `cancel()` was called.
        deadline: The moment of `monotonic()` at which every wait ends; infinity: none.
    """

    def __init__(self) -> None:
        self.cancelled = False
        self.deadline = math.inf
        self._woken = Event()

    def cancel(self) -> None:
        """Tells the thread to stop."""
        self.cancelled = True
        self._woken.set()

    def wake(self) -> None:
        """Ends the wait of the thread, or its next one."""
        self._woken.set()

    def check(self) -> None:
        """Raises `Cancelled` if the thread was told to stop."""
        if self.cancelled:
            raise Cancelled

    def wait(self, seconds: float = math.inf) -> None:
        """Waits until `wake()` is called, or for this many seconds.

        Raises:
            Cancelled: The thread was told to stop.
            TimeoutError: The deadline has passed.
        """
        longest = min(seconds, self.deadline - monotonic())
        self._woken.wait(None if longest == math.inf else longest)
        self._woken.clear()
        self.check()
        if monotonic() >= self.deadline:
            raise TimeoutError

    def sleep(self, seconds: float) -> None:
        """Waits for all of this time, whether woken or not; raises as `wait` does."""
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            self.wait(left)
