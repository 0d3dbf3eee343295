"""ScheduledWaits: the waits of a generator as timers on a scheduler, without a thread."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import copy_context
from threading import Lock

from reactivex import abc
from reactivex.disposable import SerialDisposable
from reactivex.scheduler import TimeoutScheduler

from .cancellation import Waits
from .subscriber import reporting_unhandled
from .timer import clock_of

__all__ = ["ScheduledWaits"]


class ScheduledWaits(abc.DisposableBase):
    """Resumes a generator of `Waits` at its times, and then calls a function."""

    def __init__(self, scheduler: abc.SchedulerBase, seconds: float) -> None:
        """Begins the time after which every wait ends: `seconds` from now."""
        self._scheduler = scheduler
        self._clock = clock_of(scheduler)
        self._due = -math.inf  # the time for which the latest timer was set
        self._deadline = self._clock() + seconds
        self._timer = SerialDisposable()
        self._lock = Lock()  # the generator runs on one thread at a time
        self._is_over = False
        self._context = copy_context()  # of the subscriber, for the function

    def start(self, waits: Waits, on_end: Callable[[TimeoutError | None], None]) -> None:
        """Calls `on_end` when the generator has ended: at once, if it has nothing to wait for.

        It receives a `TimeoutError` if the time of all waits is over.
        """
        self._waits, self._on_end = waits, on_end
        self._step()

    def now(self) -> float:
        # A scheduler may round its clock, and a timer would then never be due.
        return max(self._clock(), self._due)

    def wake(self) -> None:
        self._scheduler.schedule(self._resume)

    def dispose(self) -> None:
        self._timer.dispose()
        with self._lock:
            self._finish()

    def _finish(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._waits.close()

    def _resume(self, *_: object) -> None:
        # Nothing catches an exception on a timer's thread.
        is_threaded = isinstance(self._scheduler, TimeoutScheduler)
        step = reporting_unhandled(self._step) if is_threaded else self._step
        self._context.copy().run(step)

    def _step(self) -> None:
        error: TimeoutError | None = None
        with self._lock:
            if self._is_over:
                return
            is_late = self.now() >= self._deadline
            seconds = None if is_late else next(self._waits, None)
            if seconds is not None:
                self._arm(min(seconds, self._deadline - self.now()))
                return
            self._finish()
            error = TimeoutError() if is_late else None
        self._on_end(error)

    def _arm(self, seconds: float) -> None:
        if seconds == math.inf:  # until wake()
            self._timer.disposable = None
            return
        due = self.now() + seconds

        def expire(*_: object) -> None:
            self._due = due
            self._resume()

        self._timer.disposable = self._scheduler.schedule_relative(seconds, expire)
