"""HandOffQueue: a queue that hands items from the thread that emits them to a loop.

    emitting thread            HandOffQueue                      reading thread or event loop
      on_next ──▶ append ──▶ [ items, at most MAX_ITEMS ] ──▶ popleft ──▶ body of the loop
      waits, or its source is paused  ◀── make_room() when half empty
                             wake() if `reader_waits`      ──▶ waits for the wake-up

Strategy: an item costs an append, a popleft and two checks of a flag; only a side that has to
wait acquires a lock. The reading side sets its flag `reader_waits` and then checks the queue
again before it sleeps; the emitting side changes the queue first and then checks the flag. So at
least one of them sees the other. An extra wake-up is harmless. The other direction, from a full
queue to its source, is `Backpressure`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable
from reactivex.scheduler import CurrentThreadScheduler

from .backpressure import Backpressure, emitting
from .current_iteration import Iteration, current_iteration
from .leaving import leaving
from .threads import forked_stream_error, register_for_fork

__all__ = ["MAX_ITEMS", "HandOffQueue"]

T = TypeVar("T")

MAX_ITEMS = 512  # lets the two threads run in turns, and needs little memory

# Number of items at which a thread that must not wait waits after all. One block contains fewer
# items, so the source was not paused: a callback has subscribed to another one.
_MAX_ITEMS_WHILE_PAUSED = 16 * MAX_ITEMS


class HandOffQueue(Iteration, Generic[T]):
    """A bounded queue from the thread that emits to the thread or event loop that reads."""

    def __init__(self) -> None:
        self.items: deque[T] = deque()
        self.error: Exception | None = None  # follows the items
        self.ended = False
        self.reader_waits = False  # and needs a wake-up
        self.check_source: Callable[[], object] | None = None  # called while the reader waits
        self._is_disposed = False
        self._backpressure = Backpressure()
        self.waiting_producers = self._backpressure.waiting  # if any, make_room() is needed
        self._reading_thread = get_ident()
        self._subscription = SingleAssignmentDisposable()
        register_for_fork(self)

    def forked(self) -> None:
        """Ends after the queued items, in the child of a fork: its source is in the parent."""
        if not self.ended:
            self.error, self.ended = forked_stream_error(), True
        self._subscription = SingleAssignmentDisposable()

    def subscribe_to(
        self, source: Observable[T], scheduler: abc.SchedulerBase | None = None
    ) -> None:
        # A source takes a subscriber with a scheduler, even None, for an operator.
        options: Any = {} if scheduler is None else {"scheduler": scheduler}

        def subscribe(*_: object) -> None:
            self._subscription.disposable = source.subscribe(
                self.on_next, self.on_error, self.on_completed, **options
            )

        token = current_iteration.set(self)
        try:
            # While the trampoline runs, subscribe() returns its Disposable before the current
            # thread's scheduler emits, so that an endless source can be stopped.
            CurrentThreadScheduler.singleton().ensure_trampoline(subscribe)
        except Exception as error:  # raised by subscribe(): the loop raises it
            self.on_error(error)
        finally:
            current_iteration.reset(token)

    # --- emitting side ---

    def on_next(self, item: T) -> None:
        self.items.append(item)
        if self.reader_waits:
            self._wake_reader()
        if len(self.items) >= MAX_ITEMS:
            self._wait_for_room()

    def on_error(self, error: Exception) -> None:
        self.error = error
        self.on_completed()

    def on_completed(self) -> None:
        try:
            # First, so that a loop which `take` has ended finds the outcome of its answer.
            self._subscription.dispose()
        finally:
            self.ended = True
            self._wake_reader()

    def check_while_waiting(self, check: Callable[[], object]) -> None:
        """Has a function called regularly, on the reader's thread, while it waits for an item."""
        self.check_source = check
        self._wake_reader()  # which may wait without a limit

    @abstractmethod
    def _wake(self) -> None:
        """Wakes the reader, from any thread.

        Raises:
            RuntimeError: Its event loop is closed.
        """

    def _wake_reader(self) -> None:
        self.reader_waits = False
        try:
            self._wake()
        except RuntimeError:  # the event loop is closed: nothing will read any further item
            self.dispose()

    def _is_full(self) -> bool:
        return len(self.items) >= MAX_ITEMS

    def _wait_for_room(self) -> None:
        source = emitting.source if len(self.items) < _MAX_ITEMS_WHILE_PAUSED else None
        # A source that emits on the thread that reads would wait for itself.
        if source is not None or get_ident() != self._reading_thread:
            self._backpressure.apply(source, self._is_full)

    # --- reading side ---

    def make_room(self) -> None:
        """Lets the emitting side continue, if the queue is half empty."""
        if len(self.items) <= MAX_ITEMS // 2:
            self._backpressure.release()

    def final_exception(self) -> Exception:
        """Leaves the queue, and returns the exception to raise.

        The queue does not keep it, since an error refers to the frames in which it is raised.
        """
        error = StopAsyncIteration() if self.error is None else self.error
        self.leave()
        return error

    def dispose(self) -> None:
        """Ends both sides, from any thread; drops the queued items and all later ones."""
        if not self._is_disposed:
            self._is_disposed = True
            self.items.clear()
            self.items = deque(maxlen=0)
            self.error = None
            self.ended = True
            self._subscription.dispose()
            self._backpressure.release()
            self._wake_reader()

    def leave(self) -> None:
        """Disposes at the end of the loop.

        A source that lacks only the end of its answer may read on, so that the connection can be
        used again.
        """
        with leaving:
            self.dispose()
