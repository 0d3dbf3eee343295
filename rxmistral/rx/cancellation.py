"""Cancellation: one thread asks another to stop working or waiting.

What to wait for is a generator of `Waits`, so that a thread can wait (`Cancellation.run`), or the
timers of a scheduler can (`ScheduledWaits`). It yields the seconds until it wants to be resumed;
it is resumed earlier after a `wake()`, so it checks its condition again.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import closing, suppress
from threading import TIMEOUT_MAX, Lock
from typing import Protocol, TypeAlias

from .clock import monotonic
from .reused_threads import note_wait

__all__ = ["Cancellation", "Cancelled", "Waiter", "Waits", "pause"]

Waits: TypeAlias = Generator[float, None, None]
"""Each item is the longest time until the generator is resumed, in seconds."""


class Waiter(Protocol):
    """An object that resumes a generator of `Waits`."""

    def now(self) -> float:
        """Returns the time of its clock, in seconds."""
        ...

    def wake(self) -> None:
        """Resumes the generator before its time; never blocks."""


class Cancelled(BaseException):  # it is not an error
    """An exception that ends the work of a cancelled thread.

    No `except Exception` of the program catches it.
    """


class Cancellation:
    """A request to stop, and a wait that the request interrupts.

    One thread works and waits; any other may call `cancel` and `wake`, which never block.
    """

    def __init__(self) -> None:
        self.cancelled = False
        self.deadline = math.inf  # time of monotonic(), in seconds, at which every wait ends
        self.now = monotonic
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
        note_wait()
        longest = min(seconds, self.deadline - monotonic(), TIMEOUT_MAX)  # 292 years
        self._wakeup.acquire(timeout=max(longest, 0.0))
        self.check()
        if monotonic() >= self.deadline:
            raise TimeoutError

    def run(self, waits: Waits) -> None:
        """Waits on this thread until the generator ends; raises as `wait` does."""
        with closing(waits):
            for seconds in waits:
                self.wait(seconds)


def pause(waiter: Waiter, seconds: float) -> Waits:
    """Waits for the whole time."""
    end = waiter.now() + seconds
    while (remaining := end - waiter.now()) > 0:
        yield remaining
