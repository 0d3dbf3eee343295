"""SharedRun: one subscription to a source, and its viewers.

    source ──▶ SharedRun ──▶ [ history: item 1, item 2, ... item n ]
                                  ▲             ▲          ▲
                                 late          slow       fast       viewers
                                  └──────┬──────┴──────────┘
                                      delivery, a worker thread

The source appends an item once and wakes the delivery. A viewer is a position in the history, at
first before the first item; a worker thread emits what it lacks in batches, which a `CatchUp`
policy selects. The source waits only for viewers that request it (`when_behind="wait"`).

The lock of the delivery guards the history, the end and the number of viewers. It is one lock for
all runs, since garbage collection may dispose a viewer while any lock is held.
"""

from __future__ import annotations

import copy
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SerialDisposable, SingleAssignmentDisposable
from reactivex.scheduler import TimeoutScheduler

from ..checks import check_integer, check_number
from ..errors import StoppedError
from . import delivery
from .backpressure import Backpressure, emitting, running_loop
from .delivery import OF_LOOPS, OF_SUBSCRIPTIONS, RunViewers, lock
from .history import CatchUp, History
from .iteration import Iteration, current_iteration
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


class SharedSubscription(delivery.Viewer, abc.DisposableBase):
    """The subscription of one viewer: its observer, and its position in the history."""

    def __init__(
        self,
        run: SharedRun[Any],
        observer: abc.ObserverBase[Any],
        catch_up: CatchUp,
        position: int,
        max_lag: int | None,
    ) -> None:
        self.run = run
        self.run_viewers = run.viewers
        self.position = position  # the id of the latest item that it has received
        self.max_lag = max_lag  # in items, before the source waits; None: it does not wait
        self.joined = run.history.last_id  # the id of the latest item when it joined
        self._history = run.history
        self._observer = observer
        self._catch_up = catch_up
        self._is_disposed = False
        self._is_paused = False
        self._context = copy_context()  # of the subscriber, for its callbacks

    def is_full(self) -> bool:
        """Returns whether the source has to wait; items from before the viewer joined do not count."""
        lag = self._history.last_id - max(self.position, self.joined)
        return self.max_lag is not None and lag >= self.max_lag

    # --- on the worker's thread ---

    def step(self) -> bool:
        try:
            return self._context.run(self._step)
        finally:
            if self.max_lag is not None:
                self.run.resume_source()

    def _step(self) -> bool:
        if self._is_paused:
            return False
        history = self._history
        ended = history.ended  # read first: then all items that precede the end are present
        if self.position < history.last_id:
            try:
                return self._emit_batch()
            except BaseException as error:
                self.fail(error)
        elif ended:
            self._finish(_copy_of(history.error))
        return False

    def _emit_batch(self) -> bool:
        history, emit = self._history, self._observer.on_next
        with lock:
            first, items = self._catch_up(history, self.position, self.joined)
        for position, item in enumerate(items, first):
            self.position = position
            emit(item)
            if self._is_paused:
                return False
        return self.position < history.last_id or history.ended

    def fail(self, error: BaseException) -> None:
        if self._is_disposed:
            raise error
        if not isinstance(error, Exception):
            self._finish(RuntimeError(f"a callback ended the delivery: {error!r}"))
            raise error
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        emitting.source = None  # no source is left to pause
        try:
            if error is None:
                self._observer.on_completed()
            else:
                self._observer.on_error(error)
        finally:
            self.dispose()

    def pause(self) -> None:
        self._is_paused = True

    # --- from any thread ---

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            worker = self.worker
            if worker is not None:
                worker.wake_for(self)

    def dispose(self) -> None:
        with lock:
            was_disposed, self._is_disposed = self._is_disposed, True
        if not was_disposed:
            self.run.leave(self)


def _copy_of(error: Exception | None) -> Exception | None:
    """Returns a copy of the error that ended the run, for one viewer: an error keeps the frames
    that it passes through, so a single instance would keep those of all viewers."""
    if error is None:
        return None
    try:
        own = copy.copy(error)
    except Exception:  # its constructor does not accept its `args`
        return error
    if type(own) is not type(error):
        return error
    own.__cause__, own.__context__ = error.__cause__, error.__context__
    own.__suppress_context__ = error.__suppress_context__
    return own.with_traceback(error.__traceback__)


class SharedRun(Iteration, Generic[T]):
    """One subscription to a source, and its items, for many viewers; see `Stream.shared`."""

    def __init__(self, source: Observable[T], linger: float | None, max_items: int | None) -> None:
        self.history: History[T] = History(max_items)
        self._source: Observable[T] | None = source  # None once it is subscribed to
        self._linger = linger
        self._subscription = SingleAssignmentDisposable()
        self.viewers = RunViewers()
        self._viewer_count = 0
        self._join_count = 0  # including viewers that have left
        self._linger_timer = SerialDisposable()
        self._counter = RequestCounter()
        self._blocking: set[SharedSubscription] = set()
        self._backpressure = Backpressure()
        register_for_fork(self)

    def forked(self) -> None:
        """Ends a running run in the child of a fork: its source emits in the parent only."""
        if self._source is None and not self.history.ended:
            self.history.end(forked_stream_error())
        self._subscription, self._linger_timer = SingleAssignmentDisposable(), SerialDisposable()
        self.viewers = RunViewers()
        self._blocking, self._backpressure = set(), Backpressure()

    def __str__(self) -> str:
        history = self.history
        state = "running" if self._source is None else "not begun"
        if history.ended:
            state = "ended" if history.error is None else type(history.error).__name__
        return f"{history.last_id} items, {self._viewer_count} viewers, {state}"

    # --- viewers join and leave ---

    def join(
        self,
        observer: abc.ObserverBase[Any],
        catch_up: CatchUp,
        after: int = 0,
        max_lag: int | None = None,
    ) -> SharedSubscription:
        """Adds a viewer of the items after an id; the first viewer subscribes to the source."""
        with lock:
            viewer = SharedSubscription(self, observer, catch_up, after, max_lag)
            if max_lag is not None:
                self._blocking.add(viewer)
            self._viewer_count += 1
            self._join_count += 1
        add_to_scope(viewer)
        self._linger_timer.disposable = Disposable()
        self._counter.report_to(current_counter.get())  # first: the viewer may end at once
        serving = OF_SUBSCRIPTIONS if current_iteration.get() is None else OF_LOOPS
        try:
            serving.schedule(viewer)
        except BaseException:
            viewer.dispose()
            raise
        with lock:  # several viewers may join at once, but only one subscribes
            source, self._source = self._source, None
        if source is not None:
            self._begin(source)
        return viewer

    def leave(self, viewer: SharedSubscription) -> None:
        with lock:
            self._blocking.discard(viewer)
            self._viewer_count -= 1
            is_unwatched = not self._viewer_count
        delivery.remove(viewer, self._start_linger_timer)
        self.resume_source()
        if is_unwatched and self._linger == 0:
            self._stop_if_unwatched(self._join_count)

    def _start_linger_timer(self) -> None:
        # Runs on a worker thread: garbage collection may dispose a viewer, but must not start threads.
        with lock:
            join_count, is_watched = self._join_count, self._viewer_count > 0
        if is_watched or self.history.ended or not self._linger:
            return
        try:
            timer = TimeoutScheduler.singleton().schedule_relative(
                self._linger, lambda *_: self._stop_if_unwatched(join_count)
            )
        except RuntimeError:  # no thread can be started
            self._stop_if_unwatched(join_count)
            return
        with lock:
            if join_count == self._join_count:
                self._linger_timer.disposable = timer
                return
        timer.dispose()  # a viewer has joined meanwhile

    def _stop_if_unwatched(self, join_count: int) -> None:
        """Stops a run that no viewer has joined since `join_count` was read."""
        with lock:
            is_unwatched = not self._viewer_count and join_count == self._join_count
            if not is_unwatched or self._source is not None or self.history.ended:
                return
            self.history.end(StoppedError())
        self._release()

    # --- source ---

    def _begin(self, source: Observable[T]) -> None:
        # For the source, this run is a loop: its disposal ends the run, so that no viewer waits
        # forever, and the source's thread is a daemon. The thread of the delivery is not, if
        # the interpreter has to wait for a viewer.
        iteration_token = current_iteration.set(self)
        counter_token = current_counter.set(self._counter)
        scope = SubscriptionScope()  # detached: the run outlives its first viewer
        self._subscription.disposable = scope
        try:
            with detached_scope(scope):
                scope.add(source.subscribe(self.append, self.end, self.end))
        except BaseException:  # Ctrl-C
            self.stop()
            raise
        finally:
            current_counter.reset(counter_token)
            current_iteration.reset(iteration_token)

    def append(self, value: T) -> None:
        with lock:
            if self.history.ended:
                return
            self.history.append(value)
        self.viewers.wake()
        if self._blocking:
            self._wait_for_viewers()

    def stop(self) -> None:
        self.end(StoppedError())

    dispose = stop

    def end(self, error: Exception | None = None) -> None:
        with lock:
            if self.history.ended:
                return
            self.history.end(error)
            self._source = None
        self._release()

    def _release(self) -> None:
        self.viewers.wake()
        self.resume_source()
        self._linger_timer.dispose()
        self._subscription.dispose()

    # --- backpressure ---

    def _is_full(self) -> bool:
        with lock:
            return not self.history.ended and any(viewer.is_full() for viewer in self._blocking)

    def _wait_for_viewers(self) -> None:
        source = emitting.source
        if isinstance(source, SharedSubscription) and source.run is self:
            return  # a viewer's callback emits into the run: it would wait for itself
        if source is not None or running_loop() is None:
            self._backpressure.apply(source, self._is_full)

    def resume_source(self) -> None:
        """Resumes the source if no viewer requires it to wait."""
        if self._backpressure.waiting and not self._is_full():
            self._backpressure.release()


def check_shared(linger: float | None, max_items: int | None) -> None:
    if linger is not None:
        check_number("linger", linger, 0)
    if max_items is not None:
        check_integer("max_items", max_items)
