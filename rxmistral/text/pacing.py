"""Text that is emitted at fixed intervals: bursts into an even flow.

    source's thread                              timer's thread
      on_next ──▶ [ buffer ] ◀─────────────────── due
                     └──▶ the thread that emits ◀──┘
                                  └──▶ observer

While a timer is armed, or an observer is at work, an item costs an append: the thread that
emits (see `rx.timer`) checks the buffer afterwards. Otherwise it costs one reading of the
clock. The source waits to emit at its end, and when too much is buffered, so that a slow
observer slows the source down.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from reactivex import Observable, abc

from ..checks import check_seconds
from ..rx.fluent import returning
from ..rx.state_machine import timed_operator
from ..rx.stream import Stream
from ..rx.timer import SerializedTimer, serialized
from .inputs import text_for
from .text_stream import TextStream

__all__ = ["Coalescer", "IntervalEmitter", "Pacer", "coalesced", "paced"]

_MAX_PIECES = 512  # that the source may be ahead of an observer that is at work
_NEVER = -math.inf
_ROUNDING = 1e-6  # of an interval


class Coalescer:
    """A buffer of text; at a tick all of it is due.

    `feed` may be called on one thread while another method runs on a second one.
    """

    accepts = text_for("coalesced")

    def __init__(self) -> None:
        self.buffer: deque[str] = deque()
        self.feed = self.buffer.append

    def observe_time(self, now: float) -> None:
        """Notes the time, in seconds; nothing is due."""

    def release(self, now: float) -> str:  # noqa: ARG002  # a Pacer needs it
        """Returns the text that is due at this tick."""
        return self.close()

    def close(self) -> str:
        return self._pop(len(self.buffer))

    def _pop(self, count: int) -> str:
        pop = self.buffer.popleft
        return "".join([pop() for _ in range(count)])


class Pacer(Coalescer):
    """A buffer of text; at a tick as much of it is due as keeps the flow even.

    With n pieces buffered and t ticks until the oldest of them must be out, that is n/t.
    A burst is then emitted evenly over `max_lag`, and a source that is steadily faster
    than the ticks is followed at a lag of half of it.

    The arrival of a piece is recorded at the next tick, without a reading of the clock, as the
    earliest possible time: a piece may be emitted a tick too soon, never too late.
    """

    accepts = text_for("paced")

    def __init__(self, interval: float, max_lag: float) -> None:
        super().__init__()
        self._interval = interval
        self._max_lag = max_lag
        self._last_time = 0.0
        self._arrivals: deque[float] = deque()  # of the first pieces; of the others not yet

    def observe_time(self, now: float) -> None:
        new_pieces = len(self.buffer) - len(self._arrivals)
        self._arrivals.extend([self._last_time] * new_pieces)
        self._last_time = now

    def release(self, now: float) -> str:
        self.observe_time(now)
        time_left = self._max_lag - max(0.0, now - self._arrivals[0])
        ticks = max(0, math.floor(time_left / self._interval + _ROUNDING)) + 1
        return self._pop(-(-len(self._arrivals) // ticks))

    def close(self) -> str:
        self._arrivals.clear()
        return super().close()

    def _pop(self, count: int) -> str:
        for _ in range(min(count, len(self._arrivals))):
            self._arrivals.popleft()
        return super()._pop(count)


class IntervalEmitter(SerializedTimer):
    """An observer that emits its text through a Coalescer, at most once per interval."""

    def __init__(
        self,
        observer: abc.ObserverBase[str],
        coalescer: Coalescer,
        interval: float,
        scheduler: abc.SchedulerBase,
    ) -> None:
        super().__init__(observer, scheduler)
        self._coalescer = coalescer
        self._buffer, self._feed = coalescer.buffer, coalescer.feed
        self._interval = interval
        self._emitting = False
        self._emitted_at = _NEVER

    def on_next(self, piece: object) -> None:
        if not isinstance(piece, str):
            self.on_error(self._coalescer.accepts.error_for(piece))
        elif piece:
            self._feed(piece)
            if not self.armed and (not self._emitting or len(self._buffer) >= _MAX_PIECES):
                self._emit_due()

    # The source waits for both endings: the timer's thread is a daemon, and an interpreter
    # that exits when the source's thread has ended would not wait for work left to it.

    @serialized
    def on_error(self, error: Exception) -> None:
        if not getattr(error, "drops_held_items", False):
            self._emit(self._coalescer.close())
        self._observer.on_error(error)

    @serialized
    def on_completed(self) -> None:
        self._emit(self._coalescer.close())
        self._observer.on_completed()

    def on_timeout(self) -> None:
        self._emitted_at = _NEVER  # trust the timer: the clock may lag a little
        self._emit_due()

    @serialized
    def _emit_due(self) -> None:
        if self._buffer and not self.armed:
            now = self.now()
            wait = self._emitted_at + self._interval - now
            if wait > 0:
                self._coalescer.observe_time(now)
                self.arm(min(wait, self._interval))  # a clock may be set back
            else:
                self._emitted_at = now
                self._emit(self._coalescer.release(now))

    def _emit(self, text: str) -> None:
        self._emitting = True
        try:
            if text:
                self._observer.on_next(text)
        finally:
            self._emitting = False
            if self._buffer:
                self._emit_due()  # deferred until this call returns: the source may wait


def paced(
    interval: float,
    max_lag: float | None = None,
    *,
    scheduler: abc.SchedulerBase | None = None,
) -> Callable[[Observable[str]], TextStream]:
    """Text that arrives in bursts into text in an even flow, for human readers.

        --abcdef----------g--------|->
        --a--b--c--d--e--f--g------|->

    Args:
        interval: The fewest seconds between two items, except at the end.
        max_lag: The most seconds that text may be delayed, as exactly as the scheduler
            keeps time; None: ten intervals. It must not be less than one interval.
        scheduler: Keeps the time; None: the scheduler of the subscription, or else a
            `TimeoutScheduler`. An event loop's must be of the thread-safe kind if the
            source emits on another thread.

    Emits: pieces as they arrived; the first one, and any after a pause, at once. If one
        at a time would take longer than `max_lag`, several are merged into one item; none
        is ever dropped or cut. For a finer flow put `words()` before it.
    Holds: text, for `max_lag` at most; for longer only while an observer takes more than
        an interval for one item, and then the source waits for it.
    Completes: at once, after the held text, merged into one item.
    Errors: at once, after the held text, merged into one item.

    >>> import reactivex
    >>> burst = reactivex.of("All ", "at ", "once.")
    >>> list(TextStream.of(burst).pipe(paced(10, max_lag=60)))
    ['All ', 'at once.']
    """
    check_seconds("interval", interval)
    lag = 10 * interval if max_lag is None else max_lag
    check_seconds("max_lag", lag)
    if lag < interval:
        raise ValueError(f"max_lag must not be less than the interval, got {lag:g} < {interval:g}")
    return _emitting(lambda: Pacer(interval, lag), interval, scheduler)


def coalesced(
    interval: float, *, scheduler: abc.SchedulerBase | None = None
) -> Callable[[Observable[str]], TextStream]:
    """Text into less frequent, longer text, for user interfaces and sockets.

        --a-bc--d-------e----f-|->
        --a-----bcd-----e----f-|->

    Args:
        interval: The fewest seconds between two items, except at the end.
        scheduler: Keeps the time; None: the scheduler of the subscription, or else a
            `TimeoutScheduler`. An event loop's must be of the thread-safe kind if the
            source emits on another thread.

    Emits: the first item, and any after a pause, at once; then, at the end of each
        interval, the text that arrived within it as one item.
    Holds: text, for an interval at most; for longer only while an observer takes more than
        that for one item, and then the source waits for it.
    Completes: at once, after the held text.
    Errors: at once, after the held text.

    >>> import reactivex
    >>> burst = reactivex.of("All ", "at ", "once.")
    >>> list(TextStream.of(burst).pipe(coalesced(10)))
    ['All ', 'at once.']
    """
    check_seconds("interval", interval)
    return _emitting(Coalescer, interval, scheduler)


def _emitting(
    make: Callable[[], Coalescer], interval: float, scheduler: abc.SchedulerBase | None
) -> Callable[[Observable[str]], TextStream]:
    operator: Callable[[Observable[str]], Stream[str]] = timed_operator(
        lambda observer, clock: IntervalEmitter(observer, make(), interval, clock), scheduler
    )
    return returning(TextStream, operator)
