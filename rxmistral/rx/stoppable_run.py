"""StoppableRun: a run that ends when its last reader leaves, and counts the items of each reader.

    source ──▶ OpenedRun ──▶ Reader ──▶ operators and callbacks       position: items received
                         └─▶ Reader ──▶ the queue of a loop ──▶ Taken  position: items taken

Requirements: after `stop()` no item begins to be emitted, a loop receives nothing that it has not
taken, and each reader then gets `StoppedError`; and it is known how far the readers have come.

Strategy: a reader is stopped as `stoppable_emission` says. A loop over the answer itself counts the
items that it has taken on its own side of the queue.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterable
from contextlib import closing
from threading import Lock
from typing import Any, TypeVar
from weakref import ref

from reactivex import abc
from reactivex.disposable import SingleAssignmentDisposable

from ..errors import StoppedError
from .current_iteration import Iteration, current_iteration, current_reader
from .delivery import lock
from .hand_off_queue import HandOffQueue
from .leaving import leaving
from .opened_run import OpenedRun, Subscribe
from .run import RunSubscription
from .stoppable_emission import StoppableEmission, stopped_error
from .subscriber import report_unhandled

__all__ = ["CountedLoop", "StoppableRun", "Taken", "counted"]

T = TypeVar("T")


class Taken:
    """The items that a loop has taken.

    Args:
        run: The run that the loop reads.
        is_counted: Whether an item of the run is an item of the loop, which may be piped.

    Attributes:
        count: The number of items that the loop has taken.
        has_left: Whether the loop has ended, or was left.
    """

    def __init__(self, run: StoppableRun[Any], is_counted: Callable[[Any], bool]) -> None:
        self.count = 0
        self.has_left = False
        self._owner = current_reader()
        self._run = run
        self._is_counted = is_counted

    def position(self, items: Iterable[Any]) -> int:
        """Returns the number of items of the run before the first that the loop has not taken."""
        count = self.count
        position = 0
        for number, item in enumerate(items, 1):
            if not count:
                break
            if self._is_counted(item):
                count -= 1
                position = number
        return position

    def is_owned_by(self, reader: object) -> bool:
        """Returns whether this task or thread is in the loop, and so cannot wait for its end."""
        return not self.has_left and self._owner == reader

    def leave(self) -> None:
        if not self.has_left:
            self.has_left = True
            self._owner = None
            self._run.reader_left()


def counted(loop: Generator[T, None, None], taken: Taken) -> Generator[T, None, None]:
    """Yields the items of a loop, and counts them."""
    try:
        with closing(loop):
            for item in loop:
                taken.count += 1
                yield item
    finally:
        taken.leave()


class CountedLoop(AsyncIterator[T]):
    """An async loop that counts the items that it has taken."""

    def __init__(self, loop: Any, taken: Taken) -> None:
        self._loop: Any = loop
        self._taken = taken

    async def __anext__(self) -> T:
        try:
            item: T = await self._loop.__anext__()
        except BaseException:
            self._taken.leave()
            raise
        self._taken.count += 1
        return item

    async def aclose(self) -> None:
        await self._loop.aclose()
        self._taken.leave()

    def __del__(self) -> None:
        self._loop = None  # first: it disposes the subscription
        self._taken.leave()


class Reader(StoppableEmission[T], abc.ObserverBase[T]):
    """One reader of a run; see the plan above."""

    def __init__(self, observer: abc.ObserverBase[T], taken: Taken | None) -> None:
        super().__init__(observer.on_next)
        self.taken = taken
        self.subscription = SingleAssignmentDisposable()
        self._observer = observer
        loop = current_iteration.get()
        self._loop = ref(loop) if isinstance(loop, HandOffQueue) else None
        self._has_completed = False
        self._ending = Lock()  # acquired once, by the side that emits the terminal

    @property
    def is_live(self) -> bool:
        """Whether it may still receive, or take, an item."""
        if self.taken is not None and not self.taken.has_left:
            return True
        return not self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether it has received its terminal, or has left."""
        return self._ending.locked()

    def position(self, items: Iterable[T]) -> int:
        """Returns how many items of the run it has received."""
        return self.emitted_count if self.taken is None else self.taken.position(items)

    def on_error(self, error: Exception) -> None:
        if self._ending.acquire(blocking=False):
            self._observer.on_error(error)

    def on_completed(self) -> None:
        if self._ending.acquire(blocking=False):
            self._has_completed = True
            self._observer.on_completed()

    def leave(self) -> None:
        """Called when the reader has disposed its subscription."""
        self._ending.acquire(blocking=False)

    def halt(self) -> None:
        super().halt()
        self._drop_unread_items()

    def _end_stopped(self) -> None:
        if self._ending.acquire(blocking=False):
            self._drop_unread_items()
            self.subscription.dispose()
            self._observer.on_error(stopped_error())

    def _drop_unread_items(self) -> None:
        loop = None if self._loop is None else self._loop()
        if loop is None or not loop.items:
            return
        if loop.ended:
            loop.error = StoppedError()  # after the items of this run, as the loop has no other
        elif self._has_completed:  # it goes on with other items: it reads several runs
            return
        loop.items.clear()
        if loop.waiting_producers:
            loop.make_room()


class StoppableRun(OpenedRun[T]):
    """One run, for all readers of a Stream, also outside of a `with` block.

    Args:
        on_idle: Called after a reader has left, from any thread.
    """

    def __init__(self, on_idle: Callable[[], object]) -> None:
        super().__init__()
        self._on_idle = on_idle
        self._readers: list[Reader[T]] = []  # also those that have left, for their counts
        self.is_open = False  # in a `with` block, whose end ends the run
        self.is_stopped = False

    def forked(self) -> None:
        """Ends a running run in the child of a fork, which has none of its readers' threads."""
        super().forked()
        for reader in self._readers:
            reader.leave()
        self._leave_loops()

    def _leave_loops(self) -> None:
        """Notes that the loops of the readers that have ended take no further item.

        A loop that was left with `break` in a `with` block exists until the next garbage
        collection.
        """
        for reader in list(self._readers):
            if reader.taken is not None and reader.has_ended:
                reader.taken.has_left = True

    @property
    def is_over(self) -> bool:
        """Whether no reader will receive or take another item."""
        with lock:
            return self.history.ended and not any(each.is_live for each in self._readers)

    def is_taken_by(self, reader: object) -> bool:
        """Returns whether this task or thread is in a loop over the run."""
        with lock:
            loops = [each.taken for each in self._readers if each.taken is not None]
        return any(loop.is_owned_by(reader) for loop in loops)

    def position(self) -> int:
        """Returns how many items of the run its furthest reader has received."""
        with lock:
            readers = list(self._readers)
        items = self.items()
        return max((each.position(items) for each in readers), default=0)

    def items(self) -> list[T]:
        return self.history.items_after(0)

    def read(
        self, observer: abc.ObserverBase[T], subscribe: Subscribe, taken: Taken | None
    ) -> RunSubscription:
        """Adds a reader, as `join`; `taken` counts what the loop that reads takes."""
        reader = Reader(observer, taken)
        with lock:
            if self.is_stopped:
                raise StoppedError
            self._readers.append(reader)
        try:
            subscription = self.join(reader, subscribe)
        except BaseException:
            reader.leave()
            raise
        reader.subscription.disposable = subscription
        return subscription

    def leave(self, reader: RunSubscription) -> None:
        super().leave(reader)
        assert isinstance(reader.observer, Reader)
        reader.observer.leave()
        self.reader_left()

    def reader_left(self) -> None:
        """Closes the source if nothing reads it, and reports it."""
        with lock:
            is_read = self.is_open or any(each.is_live for each in self._readers)
            is_over = self._is_ending or self.history.ended
            is_abandoned = self._has_begun and not is_read and not is_over
            if is_abandoned:
                self.history.end(StoppedError())
        if is_abandoned:  # its loops may still read items that an operator such as `take` emitted
            with leaving:
                self._subscription.dispose()
        self._on_idle()

    def _iteration(self) -> Iteration | None:
        # A plain subscription has to keep the interpreter running until the end.
        return None if current_iteration.get() is None else self

    def close(self) -> None:
        """Ends the run, and its readers and loops without a terminal.

        A reader that joins on another thread at this moment may get `StoppedError` instead.
        """
        self.is_open = False
        self.dispose()
        self._leave_loops()
        self._on_idle()

    def halt(self) -> None:
        """Ends the run, before `stop`: no further item begins to be emitted to its readers.

        Calls no callback. A run that has ended by itself can still be read anew.
        """
        with lock:
            if not self.history.ended:
                self.is_stopped = True
                self.history.end(StoppedError())
            for reader in self._readers:
                reader.halt()

    def stop(self) -> None:
        """Closes the source, and emits `StoppedError` to all readers."""
        self.halt()
        self._subscription.dispose()
        with lock:
            readers = list(self._readers)
        for reader in readers:
            try:
                reader.stop()
            except Exception as error:  # by its `on_error`: the next prompt is not to blame
                report_unhandled(error)
        self.viewers.wake()
        self.resume_source()
        self._on_idle()
