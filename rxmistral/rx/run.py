"""Run: one subscription to a source, and its items, for more than one reader.

    source ──▶ Run ──▶ [ history: item 1, item 2, ... item n ]
                            ▲             ▲          ▲
                           late          slow       fast       readers
                            └──────┬──────┴──────────┘
                                delivery, a worker thread

The source appends an item once and wakes the delivery. A reader is a position in the history, at
first before the first item; a worker thread emits what it lacks in batches, which a `CatchUp`
policy selects. There are two kinds of runs: `sharing` has those of `Stream.shared()`, `opened_run`
those of a `with` block. They differ in when the source has to wait, and when the run ends.

The lock of the delivery guards the end and the readers of all runs. It is one lock for all, since
garbage collection may dispose a reader while any lock is held.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextvars import copy_context
from threading import get_ident
from typing import Any, Generic, TypeVar

from reactivex import abc
from reactivex.disposable import SingleAssignmentDisposable

from . import delivery
from .backpressure import Backpressure, emitting, running_loop
from .current_iteration import Iteration, current_iteration
from .delivery import RunViewers, lock
from .history import CatchUp, History
from .request_counter import RequestCounter, current_counter
from .subscriber import report_unhandled
from .threads import SubscriptionScope, detached_scope, register_for_fork

__all__ = ["Run", "RunSubscription"]

T = TypeVar("T")


class Run(Iteration, Generic[T]):
    """One subscription to a source, its items, and the sources that wait for its readers."""

    reading_loop: AbstractEventLoop | None = None  # the event loop that emits the items
    _reading_thread: int | None = None  # it must not wait for room: only it can make some

    def __init__(self, max_items: int | None = None) -> None:
        self.history: History[T] = History(max_items)
        self.viewers = RunViewers()
        self._subscription = SingleAssignmentDisposable()
        self._counter = RequestCounter()
        self._backpressure = Backpressure()
        self._is_ending = False  # the source has ended, and is being left
        register_for_fork(self)

    def forked(self) -> None:
        """Forgets the source and the readers, in the child of a fork: they are the parent's."""
        self.viewers = RunViewers()
        self._subscription = SingleAssignmentDisposable()
        self._backpressure = Backpressure()

    def check_reader(self, loop: Iteration | None) -> None:
        """Raises RuntimeError if a reader would block the event loop that emits the items."""
        if loop is None or loop.waiting_loop is None or self.history.ended:
            return
        if loop.waiting_loop is self.reading_loop:
            raise RuntimeError(
                "this for loop or run() would block the event loop that reads the answer, and "
                "wait forever: use async for, or await"
            )

    def end(self, error: Exception | None = None) -> None:
        """Ends the run, because its source has ended or is to be stopped; only the first call counts."""
        with lock:
            if self._is_ending or self.history.ended:
                return
            self._is_ending = True
        try:
            self._subscription.dispose()  # first, so that a reader that ends finds the outcome
        finally:
            self._end(error)

    @abstractmethod
    def _end(self, error: Exception | None) -> None:
        """Ends the history, unless it has ended meanwhile, and the readers."""

    @abstractmethod
    def leave(self, reader: RunSubscription) -> None:
        """Called once when a reader was disposed, from any thread."""

    def on_reader_removed(self) -> None:
        """Called after that on the worker's thread, if a worker served the reader."""

    def _begin(self, subscribe: Callable[[], abc.DisposableBase]) -> None:
        """Subscribes to the source.

        For the source, this run is a loop: its disposal ends the run, so that no reader waits
        forever, and the source's thread is a daemon. The thread of the delivery is not, if the
        interpreter has to wait for a reader.
        """
        iteration_token = current_iteration.set(self._iteration())
        counter_token = current_counter.set(self._counter)
        scope = SubscriptionScope()  # detached: the run outlives its first reader
        self._subscription.disposable = scope
        try:
            with detached_scope(scope):
                scope.add(subscribe())
        except BaseException:  # Ctrl-C
            self.dispose()
            raise
        finally:
            current_counter.reset(counter_token)
            current_iteration.reset(iteration_token)

    def _iteration(self) -> Iteration | None:
        """Returns what is the loop for the source."""
        return self

    # --- backpressure ---

    @abstractmethod
    def _is_full(self) -> bool:
        """Returns whether the source has to wait."""

    def _wait_for_room(self) -> None:
        """Pauses the source while this is full; or waits, if its thread may wait."""
        source = emitting.source
        if isinstance(source, RunSubscription) and source.run is self:
            return  # a reader's callback emits into the run: it would wait for itself
        may_wait = running_loop() is None and get_ident() != self._reading_thread
        if source is not None or may_wait:
            self._backpressure.apply(source, self._is_full)

    def resume_source(self) -> None:
        """Resumes the source if no reader requires it to wait."""
        if self._backpressure.waiting and not self._is_full():
            self._backpressure.release()


class RunSubscription(delivery.Viewer, abc.DisposableBase):
    """The subscription of one reader: its observer, and its position in the history."""

    def __init__(
        self,
        run: Run[Any],
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
        self.is_paused = False
        self.emitting_thread: int | None = None  # id of the thread that is in `emit`
        self._history = run.history
        self.observer = observer
        self._catch_up = catch_up
        self.is_disposed = False
        self.context = copy_context()  # of the subscriber, for its callbacks

    def is_full(self) -> bool:
        """Returns whether the source has to wait; items from before the reader joined do not count."""
        lag = self._history.last_id - max(self.position, self.joined)
        return self.max_lag is not None and lag >= self.max_lag

    # --- on the source's thread, between two of its items ---

    def emit(self, item: Any) -> None:
        """Emits an item at once; the source is in the context of this reader."""
        if self.is_disposed:
            return
        self.position += 1
        outer, emitting.source = emitting.source, self
        self.emitting_thread = get_ident()
        try:
            self.observer.on_next(item)
        except Exception as error:
            self.fail_alone(error)
        finally:
            self.emitting_thread = None
            emitting.source = outer

    def fail_alone(self, error: Exception) -> None:
        """Ends this reader with an error, and no other reader of the run."""
        try:
            self.fail(error)
        except Exception as raised:  # by `on_error`; it must not end the run of other readers
            report_unhandled(raised)

    # --- on the worker's thread ---

    def step(self) -> bool:
        try:
            return self._step()
        finally:
            if self.max_lag is not None:
                self.run.resume_source()

    def _step(self) -> bool:
        if self.is_paused or self.is_disposed:
            return False
        history = self._history
        ended = history.ended  # read first: then all items that precede the end are present
        if self.position < history.last_id:
            try:
                return self._emit_batch()
            except BaseException as error:
                self.fail(error)
        elif ended:
            self.finish(_copy_of(history.error))
        return False

    def _emit_batch(self) -> bool:
        history, emit = self._history, self.observer.on_next
        with lock:
            first, items = self._catch_up(history, self.position, self.joined)
        for position, item in enumerate(items, first):
            self.position = position
            emit(item)
            if self.is_paused or self.is_disposed:
                return False
        return self.position < history.last_id or history.ended

    def fail(self, error: BaseException) -> None:
        if self.is_disposed:
            raise error
        if not isinstance(error, Exception):
            self.finish(RuntimeError(f"a callback ended the delivery: {error!r}"))
            raise error
        self.finish(error)

    def finish(self, error: Exception | None) -> None:
        emitting.source = None  # no source is left to pause
        try:
            if error is None:
                self.observer.on_completed()
            else:
                self.observer.on_error(error)
        finally:
            self.dispose()

    def pause(self) -> None:
        self.is_paused = True

    # --- from any thread ---

    def resume(self) -> None:
        if self.is_paused:
            self.is_paused = False
            worker = self.worker
            if worker is not None:
                worker.wake_for(self)
            else:
                self.run.resume_source()

    def on_removed(self) -> None:
        self.run.on_reader_removed()

    def dispose(self) -> None:
        with lock:
            was_disposed, self.is_disposed = self.is_disposed, True
        if not was_disposed:
            self.run.leave(self)


def _copy_of(error: Exception | None) -> Exception | None:
    """Returns a copy of the error that ended the run, for one reader: an error keeps the frames
    that it passes through, so a single instance would keep those of all readers."""
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
