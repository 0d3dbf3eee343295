"""Comments while the model is silent, so that nobody in between takes it for dead.

    source's thread                    timer's thread
      on_next ──▶ observer               due ──▶ silent for long enough? a comment
      when: now                               └─▶ not yet? look again when it may be

An item costs a look at the clock, and takes no lock (see `alarm`); a timer that rings
looks how long it was silent, and is set for the rest. Who has the turn emits, so a
comment never stands in the middle of what the source emits.

Who subscribes on an event loop has his timer there: a thousand connections are then a
thousand entries in its heap, where elsewhere they are a thousand threads that wait.
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
from ..rx.stream import Stream
from ..rx.subscriber import fail_observer
from ..rx.timer import SerializedTimer, serialized

__all__ = ["HEARTBEAT", "with_heartbeats"]

Args = TypeVarTuple("Args")

HEARTBEAT = b": heartbeat\n\n"
"""A comment, which every reader of Server-Sent Events skips (WHATWG HTML 9.2.6)."""

# Seconds. A loop whose clock differs by more has a clock of its own: a test froze it, or
# the loop simulates time. Its timers may never expire, so a thread keeps the time instead.
_CLOCKS_AGREE = 5.0


class Heartbeat(SerializedTimer):
    """Emits a heartbeat where an interval has passed in silence."""

    def __init__(
        self, observer: abc.ObserverBase[bytes], interval: float, scheduler: abc.SchedulerBase
    ) -> None:
        super().__init__(scheduler)
        self._observer = observer
        self._emit = observer.on_next
        self._interval = interval
        self._silent_since = self.now()

    @serialized  # or a timer that rings at once would set the next before this one is kept
    def start(self) -> None:
        self.arm(self._interval)

    @serialized
    def on_next(self, encoded: bytes) -> None:
        self._emit(encoded)
        self._silent_since = self.now()  # after that: the time the observer took is its own

    @serialized
    def on_error(self, error: Exception) -> None:
        self._observer.on_error(error)

    @serialized
    def on_completed(self) -> None:
        self._observer.on_completed()

    def fail(self, error: Exception) -> None:
        fail_observer(self._observer, error)

    def on_timeout(self) -> None:
        wait = self._silent_since + self._interval - self.now()
        if wait <= 0:
            wait = self._interval
            self._emit(HEARTBEAT)
            self._silent_since = self.now()
        self.arm(min(wait, self._interval))  # a clock may be set back


class LoopHeartbeat(Heartbeat):
    """The same, with its timer on an event loop; it may be set from any thread."""

    def __init__(
        self, observer: abc.ObserverBase[bytes], interval: float, loop: AbstractEventLoop
    ) -> None:
        super().__init__(observer, interval, TimeoutScheduler.singleton())
        self._loop = loop

    def arm(self, seconds: float) -> None:
        self._on_loop(self._set_timer, seconds)

    def _set_timer(self, seconds: float) -> None:
        if not self._timer.is_disposed:
            handle = self._loop.call_later(seconds, self._fire)
            self._timer.disposable = Disposable(partial(self._on_loop, handle.cancel))

    def _on_loop(self, work: Callable[[*Args], object], *args: *Args) -> None:
        with suppress(RuntimeError):  # it is closed, and rings for nobody
            self._loop.call_soon_threadsafe(work, *args)


def with_heartbeats(
    interval: float | None, scheduler: abc.SchedulerBase | None = None
) -> Callable[[Observable[bytes]], Stream[bytes]]:
    """Whole events into the same, with a comment after each `interval` of silence; with
    None there are none."""
    if interval is None:
        return Stream.of
    check_seconds("heartbeat", interval)
    seconds, given = interval, scheduler

    def operate(source: Observable[bytes]) -> Stream[bytes]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[bytes], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            heart = _heart(observer, seconds, given or scheduler)
            heart.start()
            try:
                subscription = stream.subscribe(
                    heart.on_next, heart.on_error, heart.on_completed, scheduler=scheduler
                )
            except BaseException:  # by the observer of a source that emits at once
                heart.dispose()
                raise
            return CompositeDisposable(subscription, heart)

        return Stream(subscribe)

    return operate


def _heart(
    observer: abc.ObserverBase[bytes], interval: float, scheduler: abc.SchedulerBase | None
) -> Heartbeat:
    if scheduler is not None:
        return Heartbeat(observer, interval, scheduler)
    with suppress(RuntimeError):  # no loop is running
        loop = get_running_loop()
        if abs(loop.time() - monotonic()) < _CLOCKS_AGREE:
            return LoopHeartbeat(observer, interval, loop)
    return Heartbeat(observer, interval, TimeoutScheduler.singleton())
