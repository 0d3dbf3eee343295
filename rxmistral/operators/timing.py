"""Text in the time it takes to be read: bursts to an even flow.

    source's thread                                    timer's thread
      on_next ──▶ [ held ] ◀──────────────────────────── tick
                     └──▶ whoever has the turn emits ◀──┘

One thread at a time has the turn and emits; who finds it taken leaves his work to the
one who has it, and that one looks again after giving it back. No lock is held that a
callback could wait for: one that disposes, or emits into its own source, is none the
wiser. The end is waited for, and so is the turn where too much is held, so that a slow
observer slows the source down; but never on the thread that has the turn, nor on an
event loop.

While a timer runs, an item costs an append. Where nothing is held and nothing was
emitted for an interval, there is no timer, and an item costs a look at the clock.
"""

from __future__ import annotations

import math
from asyncio import get_running_loop
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Lock, get_ident

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SerialDisposable
from reactivex.scheduler import TimeoutScheduler

from ..stream import Stream

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


class Flow:
    """Emits what a Coalescer holds, an interval apart."""

    def __init__(
        self,
        observer: abc.ObserverBase[str],
        coalescer: Coalescer,
        interval: float,
        scheduler: abc.SchedulerBase,
    ) -> None:
        self._observer = observer
        self._coalescer = coalescer
        self._held, self._feed = coalescer.held, coalescer.feed
        self._interval = interval
        self._scheduler = scheduler
        self.timer = SerialDisposable()
        self._armed = False  # there is a timer that has not fired
        self._emitted = _NEVER  # when
        self._end: Callable[[], None] | None = None
        self._turn = Lock()
        self._turn_of = 0  # the thread that has it

    # the source's side

    def on_next(self, piece: str) -> None:
        if piece:
            self._feed(piece)
            if not self._armed:
                self.take_turns(wait=len(self._held) >= _LIMIT)

    def on_error(self, error: Exception) -> None:
        self._finish(partial(self._observer.on_error, error))

    def on_completed(self) -> None:
        self._finish(self._observer.on_completed)

    def _finish(self, end: Callable[[], None]) -> None:
        # Waited for: the timer's thread is a daemon, and the interpreter that exits when
        # the source's thread has ended would not wait for what is left to it.
        self._end = end
        self.take_turns(wait=True)

    # the timer's side

    def _tick(self, *_: object) -> None:
        self._emitted = _NEVER  # by this timer's word: the clock may be a little behind
        self._armed = False
        self.take_turns(wait=False)

    # whoever has the turn

    def take_turns(self, wait: bool) -> None:
        while self._has_work():
            if not self._turn.acquire(blocking=wait and self._may_wait()):
                return  # who has it looks again after giving it back
            self._turn_of = get_ident()
            try:
                if self._has_work():
                    self._work()
            finally:
                self._turn_of = 0
                self._turn.release()

    def _may_wait(self) -> bool:
        return self._turn_of != get_ident() and not _on_an_event_loop()

    def _has_work(self) -> bool:
        return self._end is not None or (bool(self._held) and not self._armed)

    def _work(self) -> None:
        end = self._end
        if end is not None:
            self._end = None
            self._emit(self._coalescer.close())
            end()
        else:
            self._emit_or_wait(self._scheduler.to_seconds(self._scheduler.now))

    def _emit_or_wait(self, now: float) -> None:
        wait = self._emitted + self._interval - now
        if wait > 0:
            self._coalescer.look(now)
            self._armed = True
            self.timer.disposable = self._scheduler.schedule_relative(
                min(wait, self._interval),  # a clock may be set back
                self._tick,
            )
        else:
            self._emitted = now
            self._emit(self._coalescer.release(now))

    def _emit(self, text: str) -> None:
        if text:
            self._observer.on_next(text)


def _on_an_event_loop() -> bool:
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True


def _flowing(
    make: Callable[[], Coalescer], interval: float, scheduler: abc.SchedulerBase | None
) -> Callable[[Observable[str]], Stream[str]]:
    given = scheduler

    def operate(source: Observable[str]) -> Stream[str]:
        def subscribe(
            observer: abc.ObserverBase[str], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            clock = given or scheduler or TimeoutScheduler.singleton()
            flow = Flow(observer, make(), interval, clock)
            return CompositeDisposable(
                source.subscribe(
                    flow.on_next, flow.on_error, flow.on_completed, scheduler=scheduler
                ),
                flow.timer,
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
    return _flowing(lambda: Pacer(interval, lag), interval, scheduler)


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
    return _flowing(Coalescer, interval, scheduler)


def check_seconds(name: str, value: object) -> None:
    """Raise for what is no length of time."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, got {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{name} must be more than 0 seconds, got {value:g}")
    if value == math.inf:
        raise ValueError(f"{name} must be less than for ever")
