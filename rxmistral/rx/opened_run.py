"""OpenedRun: the one run of a Stream within its `with` block, for everything that reads it.

    source ──▶ OpenedRun ──▶ the first reader, on the source's thread
                   └──▶ [ history ] ──▶ later readers, on a worker thread (see `run`)

Strategy: most blocks have one reader, which must cost what a subscription without a block costs.
So the first reader receives each item directly from the source, without a lock and without
another thread, and the history grows by one reference.

The fastest reader sets the pace of the source. A single slow reader slows it, as without a block.
But a loop that was left with `break` must not stop the readers after it, although it still has a
full queue. So the first reader is separated from the source if its queue is full while there
are others: from then on a worker thread delivers what it lacks. Only the source's thread does
this, between two items, so that no item is lost or doubled.

A reader that leaves does not end the run: without any reader, the source may be
`_MAX_AHEAD_ITEMS` ahead of what was read. The end of the block ends the run.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any, TypeVar

from reactivex import abc

from ..errors import StoppedError
from . import delivery
from .blocked_loops import BlockedLoopCheck
from .current_iteration import current_iteration
from .delivery import OF_LOOPS, lock
from .hand_off_queue import HandOffQueue
from .history import all_items
from .live_subscriptions import LiveSubscriptions
from .request_counter import current_counter
from .run import Run, RunSubscription
from .subscriber import Subscriber
from .threads import add_to_scope, forked_stream_error

__all__ = ["OpenedRun"]

T = TypeVar("T")

_MAX_AHEAD_ITEMS = 512  # of the fastest reader; the size of the queue of a loop

# More chunks than a model writes. Beyond it, the older half is dropped.
_MAX_KEPT_ITEMS = 262_144

Subscribe = Callable[[abc.ObserverBase[Any]], abc.DisposableBase]


class OpenedRun(Run[T]):
    """One subscription to the source of a Stream, which the first reader begins."""

    def __init__(self) -> None:
        super().__init__()
        self._has_begun = False
        self._first: RunSubscription | None = None  # while it receives directly from the source
        self._others: set[RunSubscription] = set()
        self._furthest_id = 0  # of the latest item that any reader has received
        self._live = LiveSubscriptions()

    def forked(self) -> None:
        """Ends a running run in the child of a fork: its source emits in the parent only."""
        super().forked()
        if self._has_begun and not self.history.ended:
            self.history.end(forked_stream_error())
        self._first, self._others = None, set()
        self._live = LiveSubscriptions()

    # --- readers join and leave ---

    def track(self, loop: abc.DisposableBase) -> None:
        """Ends a loop together with this run, also if it has not subscribed yet."""
        self._live.track(loop)

    def join(self, observer: abc.ObserverBase[T], subscribe: Subscribe) -> RunSubscription:
        """Adds a reader of all items; the first one subscribes to the source by `subscribe`.

        Raises:
            RuntimeError: A callback of the first reader would wait for the source, which waits
                for this callback; or the reader would block the event loop of the source.
        """
        loop = current_iteration.get()
        self.check_reader(loop)
        if isinstance(loop, Run):
            loop.reading_loop = self.reading_loop
        first = self._first
        thread = None if loop is None else loop.waiting_thread
        if isinstance(loop, HandOffQueue) and thread is not None and self.reading_loop is not None:
            loop.check_while_waiting(BlockedLoopCheck(self.reading_loop))
        if first is not None and thread is not None and thread == first.emitting_thread:
            raise RuntimeError(
                "this callback would wait for the rest of the answer that it is receiving, "
                "forever: read it after the callback has returned, or on another thread"
            )
        reader = RunSubscription(self, observer, all_items, 0, _MAX_AHEAD_ITEMS)
        with lock:
            begins, self._has_begun = not self._has_begun, True
            if begins:
                self._first = reader
            else:
                self._others.add(reader)
            live = self._live
        live.add(reader)
        add_to_scope(reader)
        self._counter.report_to(current_counter.get())
        if begins:
            self._subscribe(subscribe)
        else:
            self._deliver_to(reader)
            self.resume_source()  # it may wait for the first reader only
        return reader

    def _deliver_to(self, reader: RunSubscription) -> None:
        try:
            OF_LOOPS.schedule(reader)
        except BaseException:
            reader.dispose()
            raise

    def _subscribe(self, subscribe: Subscribe) -> None:
        loop = current_iteration.get()
        if loop is not None:
            self.waiting_loop = loop.waiting_loop
            self.event_loop = self.reading_loop = loop.event_loop
        # Of an item that is emitted within subscribe(), if a loop does not subscribe elsewhere.
        self._reading_thread = (loop and loop.waiting_thread) or get_ident()
        source: Subscriber[T] = Subscriber(self.append, self.end, self.end)
        source.closing = None  # of the first reader: the run goes on without it

        def begin() -> abc.DisposableBase:
            source.subscribe_with(lambda: subscribe(source))
            return source

        self._begin(begin)

    def leave(self, reader: RunSubscription) -> None:
        with lock:
            if reader is self._first:
                self._first = None
            self._others.discard(reader)
            self._furthest_id = max(self._furthest_id, reader.position)
        delivery.remove(reader)
        self.resume_source()

    # --- the source's thread ---

    def append(self, item: T) -> None:
        # On the path of every item: without a lock. Only this thread appends.
        first, history = self._first, self.history
        if first is not None and first.is_paused and self._others:
            self._separate(first)
            first = None
        history.append(item)
        if first is not None:
            first.emit(item)
            must_wait = first.is_paused
        else:
            must_wait = history.last_id - self._furthest_id >= _MAX_AHEAD_ITEMS
        if self.viewers.groups:
            self.viewers.wake()
        if must_wait:
            self._wait_for_room()
        if history.last_id - history.evicted_id > _MAX_KEPT_ITEMS:
            self._evict()

    def _evict(self) -> None:
        with lock:
            self.history.evict(_MAX_KEPT_ITEMS // 2)
            is_read = self._first is not None or bool(self._others)
        if not is_read:  # an endless source whose thread must not wait
            self.dispose()

    def _separate(self, first: RunSubscription) -> None:
        """Has a worker thread deliver the further items to the first reader from now on."""
        with lock:
            if self._first is not first:  # it has left
                return
            self._first = None
            self._others.add(first)
        try:
            self._deliver_to(first)
        except Exception as error:  # no thread can be started
            first.fail_alone(error)

    def _end(self, error: Exception | None) -> None:
        with lock:
            if self.history.ended:  # stopped meanwhile
                return
            self.history.end(error)
            first = self._first
        self.viewers.wake()
        self.resume_source()
        if first is not None:
            first.finish(error)

    def _is_full(self) -> bool:
        with lock:
            if self.history.ended:
                return False
            if self._first is not None:
                return self._first.is_paused and not self._others
            for reader in self._others:
                self._furthest_id = max(self._furthest_id, reader.position)
            return self.history.last_id - self._furthest_id >= _MAX_AHEAD_ITEMS

    # --- the end of the block ---

    def dispose(self) -> None:
        """Ends the subscription to the source, and all readers and loops without a terminal.

        A reader that joins after this receives all items so far, and `StoppedError`.
        """
        with lock:
            self._has_begun = True
            live, self._live = self._live, LiveSubscriptions()
        self._subscription.dispose()  # first, so that a loop that ends finds the outcome
        live.dispose()
        with lock:
            if not self.history.ended:
                self.history.end(StoppedError())
        self.viewers.wake()
        self.resume_source()
