"""Cancellation: one thread asks another to stop working or waiting."""

from __future__ import annotations

import math
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX

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
        self._wakeups: SimpleQueue[None] = SimpleQueue()

    def cancel(self) -> None:
        self.cancelled = True
        self._wakeups.put(None)

    def wake(self) -> None:
        """Ends the current wait of the thread, or the next one."""
        self._wakeups.put(None)

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
        with suppress(Empty):
            self._wakeups.get(timeout=max(longest, 0.0))
            while True:  # several are one
                self._wakeups.get_nowait()
        self.check()
        if monotonic() >= self.deadline:
            raise TimeoutError

    def sleep(self, seconds: float) -> None:
        """Waits for the whole time; raises as `wait` does, and ignores `wake()`."""
        end = monotonic() + seconds
        while (remaining := end - monotonic()) > 0:
            self.wait(remaining)
