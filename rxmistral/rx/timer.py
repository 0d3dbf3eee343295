"""SerializedTimer: a timer whose callback never runs while the source emits.

    source's thread                                  timer's thread
      on_next ──▶ fast path ──▶ [ emitter ] ◀── slow path ◀── on_timeout
                                     └──▶ observer

One thread at a time emits, no thread waits forever, and an item of the source acquires no lock.

Strategy: the emitter loop of RxJava's SerializedObserver (a flag, a queue, a drain loop), with
a second flag so that the source needs no lock. There are two ways to become the emitter:

    fast     for the source: set `_source_emits`, then check `_draining_thread`
    slow     for any thread, under a lock: set `_draining_thread`, then check `_source_emits`

Each side writes before it reads, so if both try at once, at least one sees the other and yields:
the slow path leaves its work in the queue, and the source waits, or queues its work if it would
wait for itself, in a callback of the emitter or on an event loop. The emitter does the queued work:

    enqueue  append the work, then check whether there is an emitter; if not, become it
    finish   stop being the emitter, then check the queue; if it is not empty, become it again

Again at least one side sees the other, so no work is lost. An emitter of the slow path goes on
while there is work, so that the source does not overtake work that it has queued; it stops early
only for a source that waits. No lock is held while other code is called: a callback may dispose,
and it may emit into its own source; that item is emitted when the callback has returned.

This relies on two things: writes and reads of one thread are seen in their order (guaranteed by
the GIL, or by the lock of each object in free-threaded builds), and the source emits on one
thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import cached_property, partial, wraps
from queue import SimpleQueue
from threading import Lock, get_ident
from typing import Any, TypeVar, TypeVarTuple

from reactivex import abc
from reactivex.disposable import SerialDisposable
from reactivex.scheduler import TimeoutScheduler
from reactivex.scheduler.scheduler import Scheduler

from .backpressure import running_loop
from .clock import monotonic
from .subscriber import reporting_unhandled

__all__ = ["SerializedTimer", "clock_of", "serialized"]


class SerializedTimer(abc.DisposableBase):
    """The base of the operators that measure time: a timer, and its emitter loop."""

    def __init__(self, observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase) -> None:
        self.armed = False  # a timer is set that has not called `on_timeout` yet
        self._observer = observer
        self._scheduler = scheduler
        self._timer = SerialDisposable()
        self._source_emits = False  # on the fast path; also while it asks or waits for it
        self._source_wakeup: SimpleQueue[None] | None = None  # if it waits for the emitter
        self._draining_thread = 0  # id of the emitter on the slow path; 0: none
        self._queue: list[Callable[[], None]] = []  # takes less memory than a deque, and is short
        self._lock = Lock()
        self._context = copy_context()  # of the subscriber, for on_timeout

    @cached_property
    def now(self) -> Callable[[], float]:
        """Returns the time of the scheduler, in seconds."""
        return clock_of(self._scheduler)

    def arm(self, seconds: float) -> None:
        """Sets the timer. Call this from serialized methods only."""
        if not self._timer.is_disposed:
            self.armed = True
            try:
                self._timer.disposable = self._scheduler.schedule_relative(seconds, self._fire)
            except RuntimeError:  # no thread can be started; the next item may set the timer
                self.armed = False

    def on_timeout(self) -> None:
        """Called when the timer has expired: serialized, and never after `dispose()`."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """Ends the observer with an error of `on_timeout` or of queued work; called serialized."""
        if getattr(self._observer, "is_stopped", False):
            raise error
        self._observer.on_error(error)

    def enqueue(self, work: Callable[[], None]) -> None:
        """Runs work serialized with the source: at once, or later on the emitter's thread."""
        self._queue.append(work)
        self._drain()

    def dispose(self) -> None:
        self._timer.dispose()

    def _fire(self, *_: object) -> None:
        # Nothing catches an exception on a timer's thread.
        threaded = isinstance(self._scheduler, TimeoutScheduler)
        enqueue = reporting_unhandled(self.enqueue) if threaded else self.enqueue
        self._context.copy().run(enqueue, self._expire)

    def _expire(self) -> None:
        if not self._timer.is_disposed:
            self.armed = False
            self.on_timeout()

    def _drain(self, raised: Exception | None = None) -> None:
        """Does the queued work on the slow path, unless there is another emitter; `raised` is the
        error that the fast path has raised before."""
        with self._lock:
            if self._draining_thread:
                return
            self._draining_thread = get_ident()
            if self._source_emits:
                self._stop_draining()
                return
        while self._has_work():
            try:
                self._do(self._queue.pop(0), raised)
            except BaseException:
                with self._lock:
                    self._stop_draining()
                self._drain()
                raise

    def _do(self, work: Callable[[], None], raised: Exception | None) -> None:
        # On a timer's thread, an error does not reach the source by itself. An earlier error is
        # the reason: the observer that raised it may be broken.
        try:
            work()
        except Exception as error:
            self.fail(raised or error)

    def _has_work(self) -> bool:
        with self._lock:
            if self._queue and self._source_wakeup is None:
                return True
            self._stop_draining()
            return False

    def _stop_draining(self) -> None:
        self._draining_thread = 0
        if self._source_wakeup is not None:
            self._source_wakeup.put(None)

    def _wait_for_drain(self) -> bool:
        """Waits for the slow path, if it may wait; returns whether the source is the emitter."""
        with self._lock:
            if self._draining_thread and running_loop() is None:
                self._source_wakeup = SimpleQueue()
        if self._source_wakeup is not None:
            self._source_wakeup.get()
        with self._lock:
            self._source_wakeup = None
            self._source_emits = not self._draining_thread
            return self._source_emits


A = TypeVar("A", bound=SerializedTimer)
Args = TypeVarTuple("Args")


def serialized(method: Callable[[A, *Args], None]) -> Callable[[A, *Args], None]:
    """Decorates a method that the source calls: it runs as the emitter, on the fast path, or
    after the serialized method that calls it."""

    @wraps(method)
    def emit(self: A, *args: *Args) -> None:
        if self._source_emits or self._draining_thread == get_ident():
            self.enqueue(partial(method, self, *args))
            return
        self._source_emits = True
        if self._draining_thread and not self._wait_for_drain():
            self.enqueue(partial(method, self, *args))
            return
        raised: Exception | None = None
        try:
            method(self, *args)
        except Exception as error:
            raised = error
            raise
        finally:
            self._source_emits = False
            if self._queue:
                self._drain(raised)
            raised = None  # breaks the reference cycle between the error and this frame

    return emit


def clock_of(scheduler: abc.SchedulerBase) -> Callable[[], float]:
    """Returns the clock of a scheduler, in seconds; not the wall clock, which may be set."""
    if isinstance(scheduler, Scheduler) and type(scheduler).now is Scheduler.now:
        return monotonic
    return lambda: scheduler.to_seconds(scheduler.now)
