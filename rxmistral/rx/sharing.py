"""SharedRun: the run of `Stream.shared()`, which begins with its first viewer and outlives them.

The source waits only for viewers that request it (`when_behind="wait"`).
"""

from __future__ import annotations

from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SerialDisposable
from reactivex.scheduler import TimeoutScheduler

from ..checks import check_integer, check_number
from ..errors import StoppedError
from . import delivery
from .current_iteration import current_iteration
from .delivery import OF_LOOPS, OF_SUBSCRIPTIONS, lock
from .history import CatchUp
from .request_counter import current_counter
from .run import Run, RunSubscription
from .threads import add_to_scope, forked_stream_error

__all__ = ["SharedRun", "check_shared"]

T = TypeVar("T")


class SharedRun(Run[T]):
    """One subscription to a source, and its items, for many viewers; see `Stream.shared`."""

    def __init__(self, source: Observable[T], linger: float | None, max_items: int | None) -> None:
        super().__init__(max_items)
        self._source: Observable[T] | None = source  # None once it is subscribed to
        self._linger = linger
        self._linger_timer = SerialDisposable()
        self._viewer_count = 0
        self._join_count = 0  # including viewers that have left
        self._blocking: set[RunSubscription] = set()

    def forked(self) -> None:
        """Ends a running run in the child of a fork: its source emits in the parent only."""
        super().forked()
        if self._source is None and not self.history.ended:
            self.history.end(forked_stream_error())
        self._linger_timer = SerialDisposable()
        self._blocking = set()

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
    ) -> RunSubscription:
        """Adds a viewer of the items after an id; the first viewer subscribes to the source.

        Raises:
            RuntimeError: The viewer would block the event loop that reads the source.
        """
        with lock:
            viewer = RunSubscription(self, observer, catch_up, after, max_lag)
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
        self._begin_once()
        if viewer.is_disposed:  # perhaps before the run began
            if self._linger == 0:
                self._stop_if_unwatched(self._join_count)
            self._start_linger_timer()
        try:
            self.check_reader(current_iteration.get())
        except RuntimeError:
            viewer.dispose()
            raise
        return viewer

    def leave(self, reader: RunSubscription) -> None:
        with lock:
            self._blocking.discard(reader)
            self._viewer_count -= 1
            is_unwatched = not self._viewer_count
        delivery.remove(reader)
        self.resume_source()
        if is_unwatched and self._linger == 0:
            self._stop_if_unwatched(self._join_count)

    def on_reader_removed(self) -> None:
        # Not in `leave`: garbage collection may dispose a viewer, but must not start threads.
        self._start_linger_timer()

    def _start_linger_timer(self) -> None:
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
            is_over = self._is_ending or self.history.ended
            if not is_unwatched or self._source is not None or is_over:
                return
            self.history.end(StoppedError())
        self._release()

    # --- source ---

    def start(self) -> None:
        """Subscribes to the source without a viewer, unless it was subscribed to or stopped."""
        if self._begin_once():
            self._start_linger_timer()

    def _begin_once(self) -> bool:
        with lock:  # several viewers may join at once, but only one subscribes
            source, self._source = self._source, None
        if source is None:
            return False
        self._begin(lambda: source.subscribe(self.append, self.end, self.end))
        return True

    def append(self, value: T) -> None:
        with lock:
            if self.history.ended:
                return
            self.history.append(value)
        self.viewers.wake()
        if self._blocking:
            self._wait_for_room()

    def stop(self) -> None:
        with lock:
            self._source = None
        self.end(StoppedError())

    dispose = stop

    def _end(self, error: Exception | None) -> None:
        with lock:
            self._source = None
            if self.history.ended:
                return
            self.history.end(error)
        self._release()

    def _release(self) -> None:
        self.viewers.wake()
        self.resume_source()
        self._linger_timer.dispose()
        self._subscription.dispose()

    def _is_full(self) -> bool:
        with lock:
            return not self.history.ended and any(viewer.is_full() for viewer in self._blocking)


def check_shared(linger: float | None, max_items: int | None) -> None:
    if linger is not None:
        check_number("linger", linger, 0)
    if max_items is not None:
        check_integer("max_items", max_items)
