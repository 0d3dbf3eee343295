"""One run, many viewers: what came is kept once, and each viewer is a place in it.

    source ──▶ SharedRun ──▶ [ history: item 1, item 2, ... item n ]
                                  ▲             ▲          ▲
                                late          slow       quick       viewers
                                  └──────┬──────┴──────────┘
                                     delivery, a thread that goes round

The source appends, and rings. It waits for nobody, but for those viewers who want it to
(`when_behind="wait"`). Who joins begins at the first item, whenever that is; what it lacks
comes to it in batches, on a thread of the `delivery`. What is to be done with who is
behind is a function of the history and of two places in it, a `CatchUp`.

History, end and who watches are touched under the lock of the delivery: one for all, since
garbage collection may let a viewer leave while any lock is held.
"""

from __future__ import annotations

import copy
from contextvars import copy_context
from threading import Condition
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SerialDisposable, SingleAssignmentDisposable
from reactivex.scheduler import TimeoutScheduler

from ..checks import check_number, check_whole
from ..errors import StoppedError
from . import delivery
from .backpressure import Pausable, emitting, on_an_event_loop
from .delivery import OF_LOOPS, OF_SUBSCRIPTIONS, RunViewers, lock
from .history import CatchUp, History
from .iteration import being_iterated
from .request_counter import RequestCounter, current_counter
from .threads import (
    SubscriptionScope,
    add_to_scope,
    detached_scope,
    forked_stream_error,
    register_for_fork,
)

__all__ = ["SharedRun", "SharedSubscription", "check_shared"]

T = TypeVar("T")

# --- who watches -----------------------------------------------------------------


class SharedSubscription(delivery.Viewer, abc.DisposableBase):
    """A place in a history, and the observer that goes on from there; also its Disposable."""

    def __init__(
        self, run: SharedRun[Any], observer: abc.ObserverBase[Any], take: CatchUp, place: int
    ) -> None:
        self.run = run
        self.place = place  # the id of the item that it had last
        self.joined = run.history.last
        self._history = run.history
        self._observer = observer
        self._take = take
        self._left = False
        self._paused = False
        self._context = copy_context()  # of the subscriber, for its callbacks

    def behind(self) -> int:
        """How many items it lacks, of those that came since it joined."""
        return self._history.last - max(self.place, self.joined)

    # --- on its worker's thread ---

    def step(self) -> bool:
        return self._context.run(self._step)

    def _step(self) -> bool:
        if self._paused:
            return False
        history = self._history
        ended = history.ended  # asked first: what came before the end is there by now
        if self.place < history.last:
            try:
                return self._give()
            except BaseException as error:
                self.fail(error)
        elif ended:
            self._finish(_own(history.error))
        return False

    def _give(self) -> bool:
        history, emit = self._history, self._observer.on_next
        with lock:
            first, items = self._take(history, self.place, self.joined)
        for number, item in enumerate(items, first):
            self.place = number
            emit(item)
            if self._paused:
                return False
        return self.place < history.last or history.ended

    def fail(self, error: BaseException) -> None:
        """It is too far behind, or a callback has raised."""
        if self._left:
            raise error
        if not isinstance(error, Exception):
            self._finish(RuntimeError(f"a callback ended the delivery: {error!r}"))
            raise error
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        emitting.source = None  # there is nothing that could be paused
        try:
            if error is None:
                self._observer.on_completed()
            else:
                self._observer.on_error(error)
        finally:
            self.dispose()

    def pause(self) -> None:
        self._paused = True

    # --- from any thread ---

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            worker = self.worker
            if worker is not None:
                worker.wake_for(self)

    def dispose(self) -> None:
        with lock:
            left, self._left = self._left, True
        if not left:
            self.run.leave(self)


class WaitedFor(SharedSubscription):
    """The source waits for it, where it is further behind than this."""

    leeway = 0

    def is_full(self) -> bool:
        return self.behind() >= self.leeway

    def step(self) -> bool:
        try:
            return super().step()
        finally:
            self.run.make_room()


def _own(error: Exception | None) -> Exception | None:
    """A viewer's own copy of what the run ended with. What is raised knows the frames that
    it was raised in; so the run would keep those of all its viewers."""
    if error is None:
        return None
    try:
        own = copy.copy(error)
    except Exception:  # it cannot be made again of its arguments
        return error
    if type(own) is not type(error):
        return error
    own.__cause__, own.__context__ = error.__cause__, error.__context__
    own.__suppress_context__ = error.__suppress_context__
    return own.with_traceback(error.__traceback__)


# --- the run ---------------------------------------------------------------------


class SharedRun(abc.ObserverBase[T], abc.DisposableBase):
    """The one subscription to a source, and what came of it, for many viewers.

    Args:
        source: Subscribed to when the first viewer joins.
        linger: Seconds after which it is cancelled when nobody watches; None for never.
        max_items: How many items are kept, the last ones; None keeps all.
    """

    def __init__(self, source: Observable[T], linger: float | None, max_items: int | None) -> None:
        self.history: History[T] = History(max_items)
        self._source: Observable[T] | None = source  # until it is subscribed to
        self._linger = linger
        self._subscription = SingleAssignmentDisposable()
        self._audience = RunViewers()
        self._watching = 0  # viewers
        self._visits = 0  # viewers that ever came
        self._timer = SerialDisposable()
        self._counter = RequestCounter()  # of requests, for whoever watches
        self._waited_for: set[WaitedFor] = set()
        self._room = Condition(lock)
        self._paused: set[Pausable] = set()  # sources, until there is room
        register_for_fork(self)

    def forked(self) -> None:
        """Ends where the fork was: the source emits in the parent, to the parent's viewers."""
        if self._source is None and not self.history.ended:
            self._note_end(forked_stream_error())
        self._subscription, self._timer = SingleAssignmentDisposable(), SerialDisposable()
        self._audience = RunViewers()
        self._waited_for, self._paused = set(), set()

    def __str__(self) -> str:
        history = self.history
        state = "running" if self._source is None else "not begun"
        if history.ended:
            state = "ended" if history.error is None else type(history.error).__name__
        return f"{history.last} items, {self._watching} viewers, {state}"

    # --- who comes and goes ---

    def join(
        self,
        observer: abc.ObserverBase[Any],
        take: CatchUp,
        after: int = 0,
        leeway: int | None = None,
    ) -> SharedSubscription:
        """A viewer that goes on after this item.

        Args:
            leeway: How many items the source may be ahead of it; None for any number.
        """
        kind = SharedSubscription if leeway is None else WaitedFor
        with lock:
            viewer = kind(self, observer, take, after)
            if isinstance(viewer, WaitedFor):
                viewer.leeway = leeway or 0
                self._waited_for.add(viewer)
            self._watching += 1
            self._visits += 1
        add_to_scope(viewer)
        self._timer.disposable = Disposable()
        self._counter.report_to(current_counter.get())  # first: it may see the end at once
        try:
            (OF_SUBSCRIPTIONS if being_iterated.get() is None else OF_LOOPS).add(
                viewer, self._audience
            )
        except BaseException:
            viewer.dispose()
            raise
        with lock:  # whoever comes first
            source, self._source = self._source, None
        if source is not None:
            self._begin(source)
        return viewer

    def leave(self, viewer: SharedSubscription) -> None:
        with lock:
            self._waited_for.discard(viewer)
            self._watching -= 1
            unwatched = not self._watching
        delivery.remove(viewer, self._arm)
        self.make_room()
        if unwatched and self._linger == 0:
            self._lapse(self._visits)

    def _arm(self) -> None:
        """On a worker's thread: who leaves, which may be by garbage collection, starts none."""
        with lock:
            visits, watched = self._visits, self._watching
        if watched or self.history.ended or not self._linger:
            return
        try:
            timer = TimeoutScheduler.singleton().schedule_relative(
                self._linger, lambda *_: self._lapse(visits)
            )
        except RuntimeError:  # no thread can be started
            self._lapse(visits)
            return
        with lock:
            if visits == self._visits:
                self._timer.disposable = timer
                return
        timer.dispose()  # a viewer has joined while the timer was set

    def _lapse(self, visits: int) -> None:
        """Nobody watches; unless somebody came meanwhile it is over."""
        with lock:
            unwatched = not self._watching and visits == self._visits
            runs = self._source is None and not self.history.ended
            if not (unwatched and runs):
                return
            self._note_end(StoppedError())
        self._let_go()

    # --- the source ---

    def _begin(self, source: Observable[T]) -> None:
        # What closes the source ends this as it would end a loop: nobody must wait for ever.
        # And its thread is a daemon: who is to be waited for is a viewer, and has its own.
        iterated, tallied = being_iterated.set(self), current_counter.set(self._counter)
        kept = SubscriptionScope()  # apart: the run goes on when the viewer that begins it has left
        self._subscription.disposable = kept
        try:
            with detached_scope(kept):
                kept.add(source.subscribe(self.on_next, self.on_error, self.on_completed))
        except BaseException:  # Ctrl-C
            self.stop()
            raise
        finally:
            current_counter.reset(tallied)
            being_iterated.reset(iterated)

    def on_next(self, value: T) -> None:
        with lock:
            if self.history.ended:
                return
            self.history.append(value)
        self._audience.wake()
        if self._waited_for:
            self._wait_for_viewers()

    def on_error(self, error: Exception) -> None:
        self._end(error)

    def on_completed(self) -> None:
        self._end(None)

    def stop(self) -> None:
        """For all; from any thread, and never blocks."""
        self._end(StoppedError())

    dispose = stop

    def _end(self, error: Exception | None) -> None:
        with lock:
            if self.history.ended:
                return
            self._note_end(error)
        self._let_go()

    def _note_end(self, error: Exception | None) -> None:
        self.history.end(error)
        self._source = None

    def _let_go(self) -> None:
        self._audience.wake()
        self.make_room()
        self._timer.dispose()
        self._subscription.dispose()

    # --- viewers that the source waits for ---

    def _is_full(self) -> bool:
        """Under the lock."""
        return not self.history.ended and any(each.is_full() for each in self._waited_for)

    def _wait_for_viewers(self) -> None:
        source = emitting.source
        if source is not None:
            self._pause(source)
        elif not on_an_event_loop():
            with self._room:
                self._room.wait_for(lambda: not self._is_full())

    def _pause(self, source: Pausable) -> None:
        if isinstance(source, SharedSubscription) and source.run is self:
            return  # it feeds what it views, and would wait for itself
        with lock:
            if self._is_full():
                source.pause()
                self._paused.add(source)

    def make_room(self) -> None:
        """If there is any now, for who waits for it."""
        with self._room:
            if self._is_full():
                return
            sources, self._paused = self._paused, set()
            self._room.notify_all()
        for source in sources:
            source.resume()


def check_shared(linger: float | None, max_items: int | None) -> None:
    """Raise for arguments of `shared` that are none."""
    if linger is not None:
        check_number("linger", linger, 0)
    if max_items is not None:
        check_whole("max_items", max_items)
