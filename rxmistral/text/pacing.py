"""Text in the time it takes to be read: bursts to an even flow.

    source's thread                              timer's thread
      on_next ──▶ [ held ] ◀────────────────────── due
                     └──▶ whoever has the turn ◀──┘
                                  └──▶ observer

While a timer runs, or an observer is at work, an item costs an append: who has the turn
(see `alarm`) looks at what is held after that. Where nothing is held and nothing was
emitted for an interval there is no timer, and an item costs a look at the clock.

The end is waited for, and so is the turn where too much is held, so that a slow observer
slows the source down.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable
from reactivex.scheduler import TimeoutScheduler

from ..checks import check_seconds
from ..rx.input_type import InputType
from ..rx.stream import Stream
from ..rx.subscriber import fail_observer
from ..rx.timer import SerializedTimer, serialized
from .inputs import text_for

__all__ = ["Coalescer", "Flow", "Pacer", "coalesced", "paced"]

_LIMIT = 512  # pieces that the source may be ahead of an observer that is at work
_NEVER = -math.inf
_ROUNDING = 1e-6  # of an interval


class Coalescer:
    """Holds text; at a tick all of it is due.

    `feed` may be called on one thread while another method runs on a second one.
    """

    def __init__(self) -> None:
        self.held: deque[str] = deque()
        self.feed = self.held.append

    def look(self, now: float) -> None:
        """Time has come to `now`, in seconds, and nothing is due."""

    def release(self, now: float) -> str:  # noqa: ARG002  # not all machines ask for it
        """What is due at a tick."""
        return self._take(len(self.held))

    def close(self) -> str:
        return self._take(len(self.held))

    def _take(self, number: int) -> str:
        take = self.held.popleft
        return "".join([take() for _ in range(number)])


class Pacer(Coalescer):
    """Holds text; at a tick so much of it is due that it could go on evenly.

    With n pieces held and t ticks until the oldest of them must be out, that is n/t.
    A burst then flows out evenly over `max_lag`, and a source that is steadily faster
    than the ticks is followed at half of it.

    A piece is not dated when it comes, which would cost a look at the clock, but at the
    next tick, and as early as it can have come: it may leave a tick too soon, never too
    late.
    """

    def __init__(self, interval: float, max_lag: float) -> None:
        super().__init__()
        self._interval = interval
        self._max_lag = max_lag
        self._looked = 0.0
        self._dates: deque[float] = deque()  # one for each piece that is dated

    def look(self, now: float) -> None:
        came = len(self.held) - len(self._dates)
        self._dates.extend([self._looked] * came)
        self._looked = now

    def release(self, now: float) -> str:
        self.look(now)
        time_left = self._max_lag - max(0.0, now - self._dates[0])
        ticks = max(0, math.floor(time_left / self._interval + _ROUNDING)) + 1
        return self._take(-(-len(self._dates) // ticks))

    def close(self) -> str:
        self._dates.clear()
        return super().close()

    def _take(self, number: int) -> str:
        for _ in range(min(number, len(self._dates))):
            self._dates.popleft()
        return super()._take(number)


class Flow(SerializedTimer):
    """Emits what a Coalescer holds, an interval apart."""

    def __init__(
        self,
        observer: abc.ObserverBase[str],
        coalescer: Coalescer,
        interval: float,
        scheduler: abc.SchedulerBase,
    ) -> None:
        super().__init__(scheduler)
        self._observer = observer
        self._coalescer = coalescer
        self._held, self._feed = coalescer.held, coalescer.feed
        self._interval = interval
        self._emitting = False
        self._emitted = _NEVER  # when

    def on_next(self, piece: str) -> None:
        if piece:
            self._feed(piece)
            if not self.armed and (not self._emitting or len(self._held) >= _LIMIT):
                self._look()

    # Waited for: the timer's thread is a daemon, and the interpreter that exits when the
    # source's thread has ended would not wait for what is left to it.

    @serialized
    def on_error(self, error: Exception) -> None:
        self._emit(self._coalescer.close())
        self._observer.on_error(error)

    @serialized
    def on_completed(self) -> None:
        self._emit(self._coalescer.close())
        self._observer.on_completed()

    def fail(self, error: Exception) -> None:
        fail_observer(self._observer, error)

    def on_timeout(self) -> None:
        self._emitted = _NEVER  # by this timer's word: the clock may be a little behind
        self._look()

    @serialized
    def _look(self) -> None:
        if self._held and not self.armed:
            now = self.now()
            wait = self._emitted + self._interval - now
            if wait > 0:
                self._coalescer.look(now)
                self.arm(min(wait, self._interval))  # a clock may be set back
            else:
                self._emitted = now
                self._emit(self._coalescer.release(now))

    def _emit(self, text: str) -> None:
        self._emitting = True
        try:
            if text:
                self._observer.on_next(text)
        finally:
            self._emitting = False
            if self._held:
                self._look()  # when the turn is given back: the source may wait for it


def _flowing(
    make: Callable[[], Coalescer],
    interval: float,
    scheduler: abc.SchedulerBase | None,
    takes: InputType,
) -> Callable[[Observable[str]], Stream[str]]:
    given = scheduler

    def operate(source: Observable[str]) -> Stream[str]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[str], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            clock = given or scheduler or TimeoutScheduler.singleton()
            flow = Flow(observer, make(), interval, clock)

            def on_next(piece: object) -> None:
                if isinstance(piece, str):
                    flow.on_next(piece)
                else:
                    flow.on_error(takes.error_for(piece))

            return CompositeDisposable(
                stream.subscribe(on_next, flow.on_error, flow.on_completed, scheduler=scheduler),
                flow,
            )

        return Stream(subscribe)

    return operate


# --- the operators ---------------------------------------------------------------


def paced(
    interval: float,
    max_lag: float | None = None,
    *,
    scheduler: abc.SchedulerBase | None = None,
) -> Callable[[Observable[str]], Stream[str]]:
    """Text in bursts into text in an even flow, for eyes.

        --abcdef----------g--------|->
        --a--b--c--d--e--f--g------|->

    Args:
        interval: Seconds between two items; at least, except for the end.
        max_lag: Seconds that text may come later than it came, as exactly as the
            scheduler keeps time; by default ten intervals. It must not be less than one.
        scheduler: Keeps the time; by default the one of the subscription, or else a
            `TimeoutScheduler`. One that belongs to an event loop must be its
            thread-safe kind where the source emits on another thread.

    Emits: pieces as they came, the first and any after a pause at once. Where one at a
        time would take longer than `max_lag`, several are merged into one item; none is
        ever dropped or cut. For a finer flow put `words()` before it.
    Holds: text, for `max_lag` at most; more only while an observer takes longer than the
        interval for one item, and then the source waits for it.
    Completes: at once; what is held is emitted before that, merged into one item.
    Errors: likewise, before the error.

    >>> import reactivex
    >>> burst = reactivex.of("All ", "at ", "once.")
    >>> list(Stream.of(burst).pipe(paced(10, max_lag=60)))
    ['All ', 'at once.']
    """
    check_seconds("interval", interval)
    lag = 10 * interval if max_lag is None else max_lag
    check_seconds("max_lag", lag)
    if lag < interval:
        raise ValueError(f"max_lag must not be less than the interval, got {lag:g} < {interval:g}")
    return _flowing(lambda: Pacer(interval, lag), interval, scheduler, text_for("paced"))


def coalesced(
    interval: float, *, scheduler: abc.SchedulerBase | None = None
) -> Callable[[Observable[str]], Stream[str]]:
    """Text into less frequent, longer text, for user interfaces and sockets.

        --a-bc--d-------e----f-|->
        --a-----bcd-----e----f-|->

    Args:
        interval: Seconds between two items; at least, except for the end.
        scheduler: Keeps the time; by default the one of the subscription, or else a
            `TimeoutScheduler`. One that belongs to an event loop must be its
            thread-safe kind where the source emits on another thread.

    Emits: the first item and any after a pause at once, then what came within the
        interval as one item at its end.
    Holds: text, for the interval at most; more only while an observer takes longer than
        that for one item, and then the source waits for it.
    Completes: at once; what is held is emitted before that.
    Errors: likewise, before the error.

    >>> import reactivex
    >>> burst = reactivex.of("All ", "at ", "once.")
    >>> list(Stream.of(burst).pipe(coalesced(10)))
    ['All ', 'at once.']
    """
    check_seconds("interval", interval)
    return _flowing(Coalescer, interval, scheduler, text_for("coalesced"))
