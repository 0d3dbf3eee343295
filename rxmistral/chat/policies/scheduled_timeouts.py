"""The timeouts of an answer as timers on a scheduler."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import copy_context

from reactivex import abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable
from reactivex.scheduler import TimeoutScheduler

from ...completions.accumulator import CompletionAccumulator
from ...errors import RequestTimeoutError, StreamTimeoutError
from ...rx.stream import Stream
from ...rx.subscriber import reporting_unhandled
from ...rx.timer import clock_of
from .timeouts import ResponseTimeouts, Timeouts

__all__ = ["ScheduledTimeouts"]


class ScheduledTimeouts(ResponseTimeouts):
    """The timeouts of one answer, each a timer on a scheduler while the answer is waited for.

    A timeout that expires disposes the source. When this has released its connection, the error
    is emitted in its place (`emit_expiry`), so that nothing else is emitted at the same time.

    Attributes:
        has_response: Whether the headers of the current request were received.
    """

    def __init__(
        self, timeouts: Timeouts, received: CompletionAccumulator, scheduler: abc.SchedulerBase
    ) -> None:
        super().__init__(timeouts, received, clock_of(scheduler))
        self.has_response = False
        self._scheduler = scheduler
        self._timer = SerialDisposable()
        self._source = SingleAssignmentDisposable()
        self._fail: Callable[[Exception], None] | None = None  # if the source runs
        self._expiry: Exception | None = None
        self._context = copy_context()  # of the subscriber

    def interruptible(self, source: Stream[bytes]) -> Stream[bytes]:
        """Returns the same blocks; a timeout that expires ends them."""

        def subscribe(
            observer: abc.ObserverBase[bytes], _: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            self.has_response, self._expiry = False, None
            self._source = subscription = SingleAssignmentDisposable()
            self._fail = observer.on_error
            subscription.disposable = source.subscribe(observer)
            return subscription

        return Stream(subscribe)

    def stop(self) -> None:
        """Lets no timeout expire until the next request."""
        self._timer.disposable = None
        self._fail = None

    def emit_expiry(self) -> None:
        """Emits the error of the timeout that has ended the source, if one has."""
        fail = self._fail
        self.stop()
        if fail is not None and self._expiry is not None:
            self._source.dispose()
            fail(self._expiry)

    def start_wait(self) -> bool:
        is_shorter = super().start_wait()
        self._arm()
        return is_shorter

    def restart_wait(self) -> None:
        super().restart_wait()
        self._arm()

    def end_wait(self) -> None:
        self._timer.disposable = None
        super().end_wait()

    def _arm(self) -> None:
        seconds = self.remaining()
        if seconds < math.inf:
            self._timer.disposable = self._scheduler.schedule_relative(
                max(seconds, 0.0), self._wake
            )

    def _wake(self, *_: object) -> None:
        # Nothing catches an exception on a timer's thread.
        is_threaded = isinstance(self._scheduler, TimeoutScheduler)
        expire = reporting_unhandled(self._expire) if is_threaded else self._expire
        self._context.copy().run(expire)

    def _expire(self) -> None:
        kind = StreamTimeoutError if self.has_response else RequestTimeoutError
        self._expiry = kind(*self.expired())
        if self._fail is not None:  # else the source has just ended
            self._source.dispose()
