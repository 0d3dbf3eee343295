"""Cancellation: one thread asks another to stop working or waiting."""

from __future__ import annotations

import math
from contextlib import suppress
from threading import TIMEOUT_MAX, Lock

from .clock import monotonic

__all__ = ["Cancellation", "Cancelled"]


class Cancelled(BaseException):  # it is not an error
    """Ends the work of a cancelled thread; no `except Exception` of the program catches it."""


class Cancellation:
    """A request to stop, and a wait that the request interrupts.

    One thread works and waits; any other may call `cancel` and `wake`, which never block.
    """

    def __init__(self) -> None:
        self.cancelled = False
        self.deadline = math.inf  # time of monotonic(), in seconds, at which every wait ends
        # Released by a wake-up. Not a SimpleQueue: in CPython 3.11.7, its get() waits forever if
        # a short timeout ends at the wrong moment.
        self._wakeup = Lock()
        self._wakeup.acquire()

    def cancel(self) -> None:
        self.cancelled = True
        self.wake()

    def wake(self) -> None:
        """Ends the current wait of the thread, or the next one."""
        with suppress(RuntimeError):  # it is awake already
            self._wakeup.release()

    def check(self) -> None:
        """Raises `Cancelled` if `cancel()` was called."""
        if self.cancelled:
            raise Cancelled

    def wait(self, seconds: float = math.inf) -> None:
        """Waits for `wake()`, at most for these seconds; default: no limit.

        Raises:
            Cancelled: `cancel()` was called.
            TimeoutError: The deadline has passed.
        """
        longest = min(seconds, self.deadline - monotonic(), TIMEOUT_MAX)  # 292 years
        self._wakeup.acquire(timeout=max(longest, 0.0))
        self.check()
        if monotonic() >= self.deadline:
            raise TimeoutError

    def sleep(self, seconds: float) -> None:
        """Waits for the whole time; raises as `wait` does, and ignores `wake()`."""
        end = monotonic() + seconds
        while (remaining := end - monotonic()) > 0:
            self.wait(remaining)
