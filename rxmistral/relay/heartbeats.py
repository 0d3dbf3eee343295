"""Comments during silence, so that no proxy closes a connection as idle.

    source's thread                    timer's thread
      on_next ──▶ observer               due ──▶ silent for the interval? send a comment
      silent since: now                       └─▶ otherwise wait for the remaining time

An item costs a read of the clock, and no lock (see `rx.timer`); the timer is not reset for
each item, but checks when it expires how long the silence has lasted.

If a subscriber runs on an event loop, the timer runs there, too: a thousand connections are
then a thousand entries in a heap, and not a thousand waiting threads.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVarTuple

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable
from reactivex.scheduler import TimeoutScheduler

from ..checks import check_seconds
from ..rx.clock import monotonic
from ..rx.state_machine import operate
from ..rx.stream import Stream
from ..rx.timer import SerializedTimer, serialized

__all__ = ["HEARTBEAT", "with_heartbeats"]

Args = TypeVarTuple("Args")

HEARTBEAT = b": heartbeat\n\n"
"""A comment, which every reader of Server-Sent Events ignores (WHATWG HTML 9.2.6)."""

# An event loop whose clock differs by more has a clock of its own: a test has frozen it, or
# the loop simulates time. Its timers may never expire, so a thread is used instead.
_MAX_CLOCK_DIFFERENCE_SECONDS = 5.0


class HeartbeatTimer(SerializedTimer):
    def __init__(
        self, observer: abc.ObserverBase[bytes], interval: float, scheduler: abc.SchedulerBase
    ) -> None:
        super().__init__(observer, scheduler)
        self._emit = observer.on_next
        self._interval = interval
        self._silent_since = self.now()

    @serialized  # a timer that expires at once must not set the next one before this returns
    def start(self) -> None:
        self.arm(self._interval)

    @serialized
    def on_next(self, chunk: bytes) -> None:
        self._emit(chunk)
        self._silent_since = self.now()  # read last: the observer's time is not silence

    @serialized
    def on_error(self, error: Exception) -> None:
        self._observer.on_error(error)

    @serialized
    def on_completed(self) -> None:
        self._observer.on_completed()

    def on_timeout(self) -> None:
        remaining = self._silent_since + self._interval - self.now()
        if remaining <= 0:
            remaining = self._interval
            self._emit(HEARTBEAT)
            self._silent_since = self.now()
        self.arm(min(remaining, self._interval))  # a scheduler's clock may be set back


class LoopHeartbeatTimer(HeartbeatTimer):
    """A HeartbeatTimer that runs on an event loop; any thread may set it."""

    def __init__(
        self, observer: abc.ObserverBase[bytes], interval: float, loop: AbstractEventLoop
    ) -> None:
        super().__init__(observer, interval, TimeoutScheduler.singleton())
        self._loop = loop

    def arm(self, seconds: float) -> None:
        self._call_on_loop(self._set_timer, seconds)

    def _set_timer(self, seconds: float) -> None:
        if not self._timer.is_disposed:
            handle = self._loop.call_later(seconds, self._fire)
            self._timer.disposable = Disposable(partial(self._call_on_loop, handle.cancel))

    def _call_on_loop(self, work: Callable[[*Args], object], *args: *Args) -> None:
        with suppress(RuntimeError):  # the loop is closed: no subscriber is left on it
            self._loop.call_soon_threadsafe(work, *args)


def with_heartbeats(
    interval: float | None, scheduler: abc.SchedulerBase | None = None
) -> Callable[[Observable[bytes]], Stream[bytes]]:
    """Chunks of whole events into the same chunks, and a comment after each silent interval.

        --a-----------b-|->
        --a----:----:-b-|->

    The interval is in seconds; None: no comments. Without a scheduler, that of the subscription
    keeps the time, or else the running event loop, or else a `TimeoutScheduler`.
    """
    if interval is None:
        return Stream.of
    check_seconds("heartbeat", interval)

    def subscribe_to(
        stream: Stream[bytes], observer: abc.ObserverBase[bytes], injected: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        timer = _make_timer(observer, interval, scheduler or injected)
        timer.start()
        try:
            subscription = stream.subscribe(
                timer.on_next, timer.on_error, timer.on_completed, scheduler=injected
            )
        except BaseException:  # by the observer of a source that emits at once
            timer.dispose()
            raise
        return CompositeDisposable(subscription, timer)

    return operate(subscribe_to)


def _make_timer(
    observer: abc.ObserverBase[bytes], interval: float, scheduler: abc.SchedulerBase | None
) -> HeartbeatTimer:
    if scheduler is not None:
        return HeartbeatTimer(observer, interval, scheduler)
    with suppress(RuntimeError):  # no event loop is running
        loop = get_running_loop()
        if abs(loop.time() - monotonic()) < _MAX_CLOCK_DIFFERENCE_SECONDS:
            return LoopHeartbeatTimer(observer, interval, loop)
    return HeartbeatTimer(observer, interval, TimeoutScheduler.singleton())
